"""What a choice of a phone costs: bench_choice's numbers as a table."""

import json
import statistics
import subprocess


class Choice:
    def __init__(self, options, note):
        self.options = options
        self.note = note

    def run(self, _programs):
        command = [f"{self.options.programs}/bench_choice", "--rounds", str(max(3, self.options.rounds))]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=600)
        rows = json.loads(done.stdout)["choices"]
        sizes = sorted({row["phones"] for row in rows})
        lines = ["### choice: a permit taken from the dispatcher and given back, CPU µs", "",
                 "| policy | phones | " + " | ".join(f"{size:,}" for size in sizes) + " |",
                 "|---|---|" + "--:|" * len(sizes)]
        for policy in dict.fromkeys(row["policy"] for row in rows):
            for load, words in (("free", "all free"), ("busy", "9 of 10 busy")):
                ns = {row["phones"]: statistics.median(row["ns"]) for row in rows
                      if row["policy"] == policy and row["load"] == load}
                cells = " | ".join(f"{ns[size] / 1000:.2f}" for size in sizes)
                lines.append(f"| {policy} | {words} | {cells} |")
        return {"rows": rows, "table": "\n".join(lines) + "\n"}
