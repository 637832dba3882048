// Sphinx's scores for what is searched for by name: the package's own names and the methods of its optimizers come before
// those of its modules, and all of Python before C.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) => {
    if (kind !== "object") return score;
    if (descr.startsWith("C ")) return score - 10;
    if (descr.startsWith("Python module")) return score + 10;
    const isCommon = title.startsWith("instep.Optimizer.") || title.split(".").length === 2;
    return score + (isCommon ? 25 : 20);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
