// Sphinx's scores, with what is in Python before what is in C: its search finds both by the same words.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) => {
    if (kind !== "object") return score;
    return descr.startsWith("C ") ? score - 20 : score + 20;
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
