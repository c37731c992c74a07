"""What a proof prints: the claims, each with its figure, as they are decided."""


class Table:
    """`widths` are those of the claim, the figure and the limit."""

    def __init__(self, *widths):
        self.widths = widths
        self.failed = 0

    def row(self, claim, figure, limit, holds):
        """`holds` is None where the figure is for information."""
        word = {True: "PASS", False: "FAIL", None: "-"}[holds if holds is None else bool(holds)]
        self.failed += word == "FAIL"
        of_claim, of_figure, of_limit = self.widths
        print(f"  {claim:<{of_claim}} {figure:>{of_figure}}   {limit:<{of_limit}} {word}", flush=True)

    def none(self, claim, things):
        """That there are none of these; the first of them are shown."""
        things = list(things)
        self.row(claim, str(len(things)), "0", not things)
        for thing in things[:5]:
            self.note(thing)

    def note(self, text):
        print(f"    {text}", flush=True)
