"""The looks of the page: light and dark, wide and narrow, on screen and on paper."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d1f21; --soft: #5d6570; --line: #d9dce0; --box: #ffffff;
  --accent: #2f6db5; --warn: #b3570c; --warn-box: #fff4e8; --note-box: #eef4fb; --mark: #ffe08a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181b; --ink: #e6e7e9; --soft: #a2a9b3; --line: #363b42; --box: #1e2125;
    --accent: #6aa5e8; --warn: #f0a050; --warn-box: #33261a; --note-box: #1b2735; --mark: #6b5510; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 48rem; }
h1, p, li { overflow-wrap: anywhere; }
.soft, .soft a { color: var(--soft); }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
.findings { list-style: none; margin: 1rem 0; padding: 0; }
.findings li { margin: .4rem 0; padding: .45rem .8rem; border-left: 4px solid var(--accent);
  background: var(--note-box); }
.findings li.warning { border-color: var(--warn); background: var(--warn-box); }
.findings strong { margin-right: .4rem; }
.findings .warning strong { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .4rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); }
td { white-space: nowrap; }
td:first-child { white-space: normal; min-width: 8rem; }
tr.chosen td { font-weight: 600; }
td.barred { min-width: min(11rem, 22vw); }
.bar { height: 6px; margin-top: 2px; background: var(--accent); border-radius: 2px; min-width: 1px; }
dt { float: left; clear: left; margin-right: .5rem; font-weight: 600; }
dd { margin: 0; }
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
.example { margin: .6rem 0; padding: .5rem .8rem; background: var(--box); border: 1px solid var(--line);
  border-radius: 4px; }
.example p { max-width: none; margin: .15rem 0 .45rem; overflow-wrap: anywhere; }
.example .soft { font-size: .87rem; margin: 0; }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; margin: .2rem 0 .8rem; }
svg text { fill: var(--soft); font: 12px system-ui, "Segoe UI", Roboto, sans-serif; }
svg .bars { fill: var(--accent); }
svg .axis { stroke: var(--line); }
svg .limit { stroke: var(--warn); stroke-width: 2; stroke-dasharray: 5 4; }
svg .limit-name { fill: var(--warn); }
@media print { details > * { display: block; } body { max-width: none; } }
"""
