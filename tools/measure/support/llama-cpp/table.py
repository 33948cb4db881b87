"""What was measured, as pairs, with their ratios."""

import statistics


class Table:
    """Pairs of figures, ours and the peer's, by what was measured; `notes` stand under them."""

    def __init__(self):
        self.rows = {}
        self.notes = []
        self.machine = {}

    def add(self, name, ours, theirs, unit="ms", share=None):
        row = self.rows.setdefault(name, {"unit": unit, "ours": [], "theirs": [], "shares": []})
        row["ours"].append(ours)
        row["theirs"].append(theirs)
        if share is not None:
            row["shares"].append(share)

    def ratios(self, row):
        """How many times faster, or smaller, ours is."""
        if row["unit"] == "tok/s":
            return [a / b for a, b in zip(row["ours"], row["theirs"])]
        return [b / a for a, b in zip(row["ours"], row["theirs"])]

    def text(self):
        lines = [f"{'':44} {'ours':>10} {'llama.cpp':>10} {'':6} {'ratio':>6}  smallest – largest  limit"]
        for name, row in self.rows.items():
            ratios = self.ratios(row)
            share = f"{100 * statistics.median(row['shares']):.0f} %" if row["shares"] else ""
            lines.append(
                f"{name:44} {statistics.median(row['ours']):10.2f} "
                f"{statistics.median(row['theirs']):10.2f} {row['unit']:6} "
                f"{statistics.median(ratios):6.2f}  {min(ratios):.2f} – {max(ratios):.2f}"
                f"{'':10}{share}"
            )
        return "\n".join(lines + self.notes)
