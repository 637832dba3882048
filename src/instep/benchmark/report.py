"""The tables of a result: in a terminal with rich, in a README as Markdown."""

from __future__ import annotations

from typing import Any

from ..tables import Table
from . import around
from .claims import WAYS, claims, extras_in, find, median, over_plain, roof, rows_of, spelled
from .peers import BOUND, DROP_IN, INSTEP
from .picture import peers
from .suite import AROUND_IN_CACHE
from .values import NORMAL
from .variants import PLAIN
from .walls import BARE, ROOF, WALLS

Row = dict[str, Any]


def duration(seconds: float) -> str:
    """In a unit that leaves one to three digits before the point."""
    for unit, factor in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def factor(ratio: float) -> str:
    """Of a time to instep's."""
    return f"{spelled(round(ratio))}x" if ratio >= 9.95 else f"{ratio:.1f}x" if ratio >= 1.05 else f"{ratio:.2f}x"


# ---- in a terminal ----------------------------------------------------------------------------------------------


def show(result: dict[str, Any], console: Any) -> None:
    """Every table of the result: its first rule at length, then the family, then what was to be shown."""
    first = result["rules"][0]
    show_machine(result, console)
    for row in rows_of(result, "workloads", first):
        show_row(row, result, console)
    show_sizes(result, console)
    show_rest(result, console)
    show_conditions(result, console)
    show_values(result, console)
    show_around(result, console)
    if len(result["rules"]) > 1:
        show_family(result, console)
    show_claims(result, console)


def show_machine(result: dict[str, Any], console: Any) -> None:
    """Where, with what, without whom."""
    there = result["machine"]
    sizes = ", ".join(f"{level} {spelled(size >> 10)} KiB" for level, size in there["caches"].items())
    console.print(
        f"{there['processor']}, {there['threads']} threads, {sizes}, {there['instruction set']}", highlight=False
    )
    found = [f"{module} {number}" for module, number in result["versions"].items() if number]
    console.print(f"{there['python']}, {', '.join(found)}", highlight=False)
    for name, why in result["left_out"].items():
        console.print(f"[yellow]left out:[/] {name} ({why})", highlight=False)
    console.print()


def show_row(row: Row, result: dict[str, Any], console: Any) -> None:
    """A workload: who took how long."""
    most = result["machine"]["threads"]
    ours = {threads: median(row, INSTEP, threads) for threads in (1, most)}
    title = f"{row['title']}: {spelled(row['elements'])} elements"
    table = Table(title, "", "threads", "a step", "GB/s", "of the\nroof", "against\ninstep")
    for time in row["times"]:
        name, threads, seconds = time["name"], time["threads"], time["median"]
        table.add(
            name,
            str(threads),
            duration(seconds),
            f"{row['bytes'] * row['elements'] / seconds * 1e-9:.1f}",
            f"{roof(row, threads) / seconds:.0%}",
            "" if name in (INSTEP, ROOF, BARE) else factor(seconds / ours[threads]),
            style="bold green" if name in (INSTEP, BOUND, DROP_IN) else "dim" if name in (ROOF, BARE) else "",
        )
    table.show(console)
    for name, why in row["left_out"].items():
        console.print(f"  [yellow]left out:[/] {name} ({why})", highlight=False)
    console.print()


def show_sizes(result: dict[str, Any], console: Any) -> None:
    """Nanoseconds an element against size: the powers of ten, and the largest."""
    swept = rows_of(result, "sizes", result["rules"][0])
    rows = [row for row in swept if str(row["elements"]).strip("0") == "1"]
    rows += [row for row in swept[-1:] if row not in rows]
    table = Table(
        "one array, nanoseconds an element, 1 thread or all", "", *[short(row["elements"]) for row in rows], gap=0
    )
    for name in dict.fromkeys(time["name"] for row in rows for time in row["times"]):
        cells = []
        for row in rows:
            seconds = find(row, name)
            cells.append("" if seconds is None else number(seconds / row["elements"] * 1e9))
        table.add(name, *cells, style="bold green" if name in (INSTEP, BOUND, DROP_IN) else "")
    table.show(console)
    console.print()


def short(count: int) -> str:
    """Of a size that is a power of ten or whole millions."""
    for unit, each in (("M", 1_000_000), ("k", 1_000)):
        if count >= each:
            return f"{count // each}{unit}"
    return str(count)


def number(value: float) -> str:
    """In five characters."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 999.5 else spelled(round(value))


def show_rest(result: dict[str, Any], console: Any) -> None:
    """Overhead and options."""
    first = result["rules"][0]
    rows = rows_of(result, "overhead", first)
    names = {BARE: "the loop"} | {name: way for name, way in WAYS.items() if rows and find(rows[0], name) is not None}
    table = Table("small arrays of 10, one thread", "arrays", *names.values())
    for row in rows:
        table.add(str(row["arrays"]), *[duration(median(row, name)) for name in names])
    table.show(console)
    console.print()
    for row in rows_of(result, "options", first):
        plain = median(row, PLAIN)
        table = Table(f"{row['title']}, one thread", "", "an element", "time", "bytes")
        for time in row["times"]:
            moved = row["bytes"][time["name"]] / row["bytes"][PLAIN]
            table.add(
                time["name"],
                duration(time["median"] / row["elements"]),
                f"{time['median'] / plain:.2f}x",
                f"{moved:.2f}x",
            )
        table.show(console)
        console.print()


def show_conditions(result: dict[str, Any], console: Any) -> None:
    """How long a step takes with something between the steps, or beside them."""
    headings, rows = conditions_table(result)
    if rows:
        table = Table("one array, with other work between or beside the steps", *headings, words=(1, len(headings) - 1))
        for cells in rows:
            table.add(*cells)
        table.show(console)
        console.print()


def conditions_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """For each size and condition instep with one thread and with all, and the fastest other."""
    rows = rows_of(result, "between", result["rules"][0])
    counts = sorted({time["threads"] for row in rows for time in row["times"] if time["name"] == BOUND})
    cells = []
    for row in rows:
        ours = [duration(median(row, BOUND, threads)) for threads in counts]
        others = [time for time in row["times"] if time["name"] != BOUND]
        best = min(others, key=lambda time: time["median"], default=None)
        peer = f"{duration(best['median'])}: {best['name']}, {best['threads']}" if best else ""
        cells.append([spelled(row["elements"]), row["title"], *ours, peer])
    threads = [f"{count} thread{'s' * (count > 1)}" for count in counts]
    return ["elements", "steps", *threads, "the fastest peer, its threads"], cells


def show_values(result: dict[str, Any], console: Any) -> None:
    """How many times as long a step takes by what the arrays hold."""
    headings, rows = values_table(result)
    if rows:
        table = Table("by what the arrays hold, one thread", "", *[one.replace(", ", "\n") for one in headings])
        for what, cells in rows.items():
            table.add(what, *cells)
        table.show(console)
        console.print()


def values_table(result: dict[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Who is in which column, and the cells of each row, instep first in both types; empty cells for what cannot be."""
    first = result["rules"][0]
    by_place = {(row["dtype"], row["title"]): row for row in rows_of(result, "values", first)}
    labels = {name: label for name, (label, _) in peers(first).items()}
    names = {name: None for row in by_place.values() for time in row["times"] if (name := time["name"]) != BOUND}
    columns = [(f"instep, {dtype}", dtype, BOUND) for dtype in dict.fromkeys(dtype for dtype, _ in by_place)]
    columns += [(labels.get(name, name), "float32", name) for name in names]
    cells = {
        what: [
            f"{row['over_normal'][name]:.1f}x" if (row := by_place.get((dtype, what))) and find(row, name) else ""
            for _, dtype, name in columns
        ]
        for what in dict.fromkeys(what for _, what in by_place)
        if what != NORMAL
    }
    return [heading for heading, *_ in columns], cells


def show_around(result: dict[str, Any], console: Any) -> None:
    """How many times as long as a plain step one with something around it takes, and how long steps of rows."""
    for row, cells in around_tables(result):
        title = f"{row['title']}: {spelled(row['elements'])} elements, against a plain step"
        table = Table(title, "", around.OURS, "at most", "NumPy's\npasses", around.TORCH)
        for name, of_name in cells.items():
            table.add(name, *of_name)
        table.show(console)
        console.print()
    names, rows = rows_table(result)
    if rows:
        table = Table(f"rows of {' x '.join(map(spelled, around.TABLE))}, a step", "", *rows)
        for k, name in enumerate(names):
            table.add(name, *[cells[k] for cells in rows.values()])
        table.show(console)
        console.print()


def around_tables(result: dict[str, Any]) -> list[tuple[Row, dict[str, list[str]]]]:
    """Rows, and by what is around the step how many times as long as a plain one it takes: ours, limit, the others."""
    first, found = result["rules"][0], []
    for row, others in zip(rows_of(result, "around", first), rows_of(result, "passes", first), strict=True):
        cells = {}
        for extra in extras_in(row, first):
            limit = extra.in_cache if row["elements"] == AROUND_IN_CACHE else extra.in_memory
            cells[extra.name] = [
                f"{over_plain(row, extra.name, around.OURS):.2f}x",
                "" if limit is None else f"{limit:.2f}x",
                *(
                    f"{over_plain(others, extra.name, way):.1f}x"
                    if find(others, around.called(extra.name, way))
                    else ""
                    for way in (around.PASSES, around.TORCH)
                ),
            ]
        found.append((row, cells))
    return found


def rows_table(result: dict[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the contenders, and the time of each by how many rows are touched."""
    found = rows_of(result, "rows", result["rules"][0])
    names = [time["name"] for time in found[0]["times"]] if found else []
    return names, {
        spelled(row["elements"] // around.TABLE[1]): [duration(median(row, name)) for name in names] for row in found
    }


def show_family(result: dict[str, Any], console: Any) -> None:
    """Every rule on every workload, and who comes closest."""
    headings = "", "", "a step", "of the\nroof", "best peer", "against\ninstep"
    table = Table("a step, all threads", *headings, words=(0, 1, 4))
    for rule in result["rules"]:
        for row in rows_of(result, "workloads", rule):
            ours, share, peer, ratio = summary(row, result["machine"]["threads"])
            table.add(rule, row["title"], duration(ours), f"{share:.0%}", peer, factor(ratio))
    table.show(console)
    console.print()


def summary(row: Row, threads: int) -> tuple[float, float, str, float]:
    """Our time with all threads, its share of the roof, the fastest other, and how many times ours it takes."""
    ours = median(row, INSTEP, threads)
    others = [time for time in row["times"] if time["name"] not in (INSTEP, BOUND, DROP_IN, *WALLS)]
    best = min(others, key=lambda time: time["median"])
    return ours, roof(row, threads) / ours, best["name"], best["median"] / ours


def show_claims(result: dict[str, Any], console: Any) -> None:
    """What was to be shown."""
    table = Table("what a run has to show", "", "limit", "measured", "", words=(0, 2, 3))
    for claim in claims(result):
        table.add(claim.what, claim.limit, claim.measured, "[green]yes" if claim.holds else "[red]no")
    table.show(console)


# ---- in a README ------------------------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """Every contender of the first rule, each with its best number of threads, beside instep with all of them."""
    rows, most = rows_of(result, "workloads", result["rules"][0]), result["machine"]["threads"]
    lines = [
        "| | " + " | ".join(heading(row) for row in rows) + " |",
        "|---|" + "---:|" * len(rows),
    ]
    names = dict.fromkeys(time["name"] for row in rows for time in row["times"] if time["name"] not in (BARE, BOUND))
    for name in (ROOF, INSTEP, *[name for name in names if name not in (ROOF, INSTEP)]):
        cells = []
        for row in rows:
            ours = median(row, INSTEP, most)
            seconds = find(row, name, most if name == INSTEP else None)
            if seconds is None:
                cells.append("")
            elif name == INSTEP:
                cells.append(f"**{duration(seconds)}**")
            elif name == ROOF:
                cells.append(duration(seconds))
            else:
                cells.append(f"{duration(seconds)}, {factor(seconds / ours)}")
        label = (
            f"**{name}**" if name == INSTEP else f"*{name}: the same bytes, no arithmetic*" if name == ROOF else name
        )
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", f"A step in float32: the median time, and how many times instep's it is. {where(result)}"]
    lines += [f"Left out: {name} ({why})." for name, why in result["left_out"].items()]
    return "\n".join(lines) + "\n"


def markdown_family(result: dict[str, Any]) -> str:
    """Every rule on every workload: instep, its share of the roof, the best of the others."""
    most = result["machine"]["threads"]
    titles = [heading(row) for row in rows_of(result, "workloads", result["rules"][0])]
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for rule in result["rules"]:
        cells = []
        for row in rows_of(result, "workloads", rule):
            ours, share, peer, ratio = summary(row, most)
            cells.append(f"**{duration(ours)}**, {share:.0%}; {peer} {factor(ratio)}")
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    lines += [
        "",
        "A step in float32: instep's median time, what part of it the rule's bytes alone would take, and the fastest "
        f"peer with how many times instep's time it takes. {where(result)}",
    ]
    return "\n".join(lines) + "\n"


def where(result: dict[str, Any]) -> str:
    """The machine, the versions and the day, and how many threads the peers have."""
    most = result["machine"]["threads"]
    return f"{where_and_when(result)} Peers use the number of threads, 1 or {most}, that suits them better."


def where_and_when(result: dict[str, Any]) -> str:
    """The machine, the versions and the day."""
    there = result["machine"]
    found = ", ".join(f"{module} {number}" for module, number in result["versions"].items() if number)
    return (
        f"{there['processor']}, {there['threads']} threads, {there['instruction set']}; {there['compiler']}, "
        f"{there['python']}, {found}; {result['date'][:10]}."
    )


def heading(row: Row) -> str:
    """What a column is about."""
    if row["arrays"] == 1:
        return f"one array of {spelled(row['elements'])}"
    return (
        row["title"]
        if row["title"][0].isdigit()
        else f"{row['title']}: {row['arrays']} arrays, {spelled(row['elements'])}"
    )


def markdown_claims(result: dict[str, Any]) -> str:
    """What the run had to show, kept and missed."""
    lines = ["| | limit | measured | |", "|---|---:|---:|---|"]
    lines += [
        f"| {one.what} | {one.limit} | {one.measured} | {'yes' if one.holds else '**no**'} |" for one in claims(result)
    ]
    return "\n".join(lines) + "\n"


def markdown_conditions(result: dict[str, Any]) -> str:
    """How long a step takes with something between the steps, or beside them."""
    headings, rows = conditions_table(result)
    if not rows:
        return "The last run did not measure it.\n"
    lines = [f"| {' | '.join(headings)} |", f"|---:|---|{'---:|' * (len(headings) - 3)}---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines) + f"\n\n{where(result)}\n"


def markdown_values(result: dict[str, Any]) -> str:
    """How many times as long a step takes by what the arrays hold."""
    headings, rows = values_table(result)
    if not rows:
        return "The last run did not measure it.\n"
    lines = ["| one thread, in cache | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(headings)]
    lines += [f"| {what} | {' | '.join(cells)} |" for what, cells in rows.items()]
    return "\n".join(lines) + "\n"


def markdown_options(result: dict[str, Any]) -> str:
    """What options cost, beside the bytes they move."""
    first = result["rules"][0]
    cache, memory = rows_of(result, "options", first)
    lines = [
        f"| one thread | in cache ({spelled(cache['elements'])}) | in memory ({spelled(memory['elements'])}) | bytes |",
        "|---|---:|---:|---:|",
    ]
    for name, moved in memory["bytes"].items():
        cells = [f"{median(row, name) / median(row, PLAIN):.2f}x" for row in (cache, memory)]
        lines.append(f"| {name} | {' | '.join(cells)} | {moved / memory['bytes'][PLAIN]:.2f}x |")
    return "\n".join(lines) + "\n"


def markdown_around(result: dict[str, Any]) -> str:
    """What comes with a step beside a plain one, in memory and in cache, and steps of rows."""
    tables = around_tables(result)
    if not tables:
        return "The last run did not measure it.\n"
    headings = [f"{spelled(row['elements'])}: {around.OURS} | at most | NumPy's passes | torch" for row, _ in tables]
    lines = [f"| against a plain step | {' | '.join(headings)} |", "|---|" + "---:|" * 4 * len(tables)]
    for name in tables[0][1]:
        cells = []
        for ours, limit, *others in (of_row[name] for _, of_row in tables):
            is_missed = limit and float(ours[:-1]) > float(limit[:-1])
            cells += [f"**{ours}**" if is_missed else ours, limit, *others]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    plain = " and ".join(duration(median(row, around.called(around.PLAIN, around.OURS))) for row, _ in tables)
    names, by_count = rows_table(result)
    lines += [
        "",
        f"How many times as long as a plain step of {result['rules'][0]} in float32, which takes {plain}; the best of "
        f"the rounds. Bold is above the limit. instep and torch step the larger array with "
        f"{result['machine']['threads']} threads, the smaller one and the rows with one. {where_and_when(result)}",
        "",
        f"| rows of {' x '.join(map(spelled, around.TABLE))} that have a gradient | {' | '.join(by_count)} |",
        "|---|" + "---:|" * len(by_count),
    ]
    lines += [f"| {name} | {' | '.join(cells[k] for cells in by_count.values())} |" for k, name in enumerate(names)]
    return "\n".join(lines) + "\n"


TABLES = {
    "benchmark": markdown,
    "family": markdown_family,
    "claims": markdown_claims,
    "between": markdown_conditions,
    "options": markdown_options,
    "values": markdown_values,
}


def write_tables(text: str, result: dict[str, Any]) -> str:
    """The text with each table that it has a place for, between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises
    ------
    ValueError
        There is no place for any of them, or a place that does not end.
    """
    found = [name for name in TABLES if f"<!-- {name} -->" in text]
    if not found:
        raise ValueError(f"no line <!-- name -->, name being one of {', '.join(TABLES)}")
    for name in found:
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, *rest = text.split(begin)
        if len(rest) != 1 or rest[0].count(end) != 1:
            raise ValueError(f"the lines {begin.strip()} and {end} must be there once each, in this order")
        text = before + begin + TABLES[name](result) + end + rest[0].split(end)[1]
    return text
