"""The tables of real_adapters.json: for real_adapters.md and for docs/experts.md."""

import re


def size_table(adapters: dict[str, list[dict]]) -> list[str]:
    lines = [
        "| adapter | parameters | k | bytes | times smaller than 16 bit | over Shannon "
        "| over Shannon + 2 kB | bytes, size profile (S) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {name} | {row['parameters']:,} | {row['density']:.0%} | {row['bytes']:,} "
        f"| {row['ratio_to_16_bit']:.1f} | {row['over_shannon']:.3f} "
        f"| {row['over_shannon_and_2_kB']:.3f} "
        f"| {row['bytes_size_profile']:,} ({row['layout_size_profile']['S']}) |"
        for name, rows in adapters.items()
        for row in rows
    ]


def cosine_table(adapters: dict[str, list[dict]]) -> list[str]:
    lines = [
        "| adapter | modules | k | cos min | median | max | least-squares alpha "
        "| norm ratio at alpha 1 | at least squares |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in adapters.items():
        for row in rows:
            cosine, norm = row["cosine"], row["norm_ratio_median"]
            alphas = ", ".join(f"{g} {alpha:.2f}" for g, alpha in row["alpha_found"].items())
            lines.append(
                f"| {name} | {len(row['modules'])} | {row['density']:.0%} | {cosine['min']:.3f} "
                f"| {cosine['median']:.3f} | {cosine['max']:.3f} | {alphas} "
                f"| {norm['alpha 1']:.3f} | {norm['least squares']:.3f} |"
            )
    return lines


def markdown(result: dict) -> str:
    lines = [
        "# Real adapters\n",
        f"{result['date'][:10]}, {result['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + ". Made by `python benches/real_adapters.py`; every module is in real_adapters.json.",
        "\n## Whole files\n",
        "Scope role, alpha 1 and the default profile, and beside them the size profile with the "
        "stream length S that it chose. Shannon's bound is H(k) + k bits per parameter; the file "
        "also holds names, shapes, scales and checksums.\n",
        *size_table(result["adapters"]),
        "\n## Updates by module\n",
        "Cosine of each module's update before and after (the product B A for a LoRA), which no "
        "alpha changes, and the median over modules of |dW'| / |dW|.\n",
        *cosine_table(result["adapters"]),
    ]
    for title, about, rows in result["checks"]:
        lines += [f"\n## {title}\n", about + "\n", *plain_table(rows)]
    return "\n".join(lines) + "\n"


def plain_table(rows: list[dict]) -> list[str]:
    header = list(rows[0])
    # A | would end the cell.
    names = [name.replace("|", "\\|") for name in header]
    return [
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(header),
        *(f"| {' | '.join(str(row[name]) for name in header)} |" for row in rows),
    ]


def alphas(adapters: dict[str, list[dict]]) -> list[str]:
    """The least-squares alpha of each group by density."""
    rows = []
    for name, runs in adapters.items():
        for group in runs[0]["alpha_found"]:
            found = {f"{run['density']:.0%}": f"{run['alpha_found'][group]:.2f}" for run in runs}
            rows.append({"adapter": name, "group": group} | found)
    return plain_table(rows)


def sizes(adapters: dict[str, list[dict]]) -> list[str]:
    """Factors by which whole files are smaller than 16 bits per weight."""
    rows = [
        {"adapter": name, "parameters": f"{runs[0]['parameters']:,}"}
        | {f"{run['density']:.0%}": f"{run['ratio_to_16_bit']:.1f}x" for run in runs}
        for name, runs in adapters.items()
    ]
    return plain_table(rows)


def cosines(adapters: dict[str, list[dict]]) -> list[str]:
    """Lowest, median and highest cosine over modules."""
    rows = [
        {"adapter": name, "modules": len(runs[0]["modules"])}
        | {
            f"{run['density']:.0%}": " / ".join(
                f"{run['cosine'][which]:.2f}" for which in ("min", "median", "max")
            )
            for run in runs
        }
        for name, runs in adapters.items()
    ]
    return plain_table(rows)


def embed(page: str, result: dict) -> str:
    """The page with new tables between each `<!-- table: NAME -->` and `<!-- end -->`."""
    checks = {title: rows for title, _, rows in result["checks"]}
    tables = {
        "sizes": sizes(result["adapters"]),
        "alphas": alphas(result["adapters"]),
        "cosines": cosines(result["adapters"]),
        "scopes": plain_table([row for row in checks["Scopes"] if row["k"] == "20%"]),
        "erasure": plain_table(
            [row for row in checks["How one threshold erases B"] if row["k"] == "20%"]
        ),
        "initial": plain_table(checks["Initial values"]),
    }

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n" + "\n".join(tables[found[2]]) + f"\n{found[3]}"

    return re.sub(r"(<!-- table: (\w+) -->)\n.*?(<!-- end -->)", table, page, flags=re.S)
