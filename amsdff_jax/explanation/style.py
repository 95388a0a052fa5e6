"""How the page looks: light and dark, on paper, on narrow and wide screens."""

# Blue and orange are told apart by those who do not see red and green. On the strongest shade text keeps a contrast of
# 6 to 1 or more, lines and bars have 3 to 1 or more (WCAG 2 asks for 4.5 and 3).
STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1a1c1f; --muted: #565b62; --line: #d5d8dc; --panel: #f5f6f8;
  --for: 30 110 200; --against: 214 110 10; --weight: 110 80 190; --warning: #8a2a00; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --text: #eceef0; --muted: #a9afb7; --line: #3a3f46;
  --panel: #1e2125; --for: 70 140 240; --against: 215 120 30; --weight: 140 110 235; --warning: #ffb38a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem; }
.wide { max-width: 110rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 0 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; } h4 { font-size: 1rem; margin: .75rem 0 .25rem; }
p { margin: .35rem 0; } ul { margin: .35rem 0; padding-inline-start: 1.2rem; }
.muted, small, caption { color: var(--muted); font-size: .875rem; }
.warning { color: var(--warning); font-weight: 600; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem; margin: 0 0 1.5rem;
  min-width: 0; }
.text { background: var(--panel); border-radius: .4rem; padding: .6rem .8rem; margin: .4rem 0; line-height: 2.15;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.mark { border-radius: .2rem; padding: .1rem .15rem; margin: 0 1px; border-bottom: 2px solid transparent; }
.for { background: rgb(var(--for) / calc(var(--strength) * .5)); border-bottom: 2px solid rgb(var(--for)); }
.against { background: rgb(var(--against) / calc(var(--strength) * .5));
  border-bottom: 2px dashed rgb(var(--against)); }
.weight { background: rgb(var(--weight) / calc(var(--strength) * .5)); }
.special { outline: 1px dashed var(--muted); font-size: .8rem; }
.mark small { color: inherit; font-size: .72rem; margin-inline-start: .2rem; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: start; }
th, td { text-align: start; padding: .2rem .5rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
bdi { overflow-wrap: anywhere; }
th { font-weight: 600; } thead th { color: var(--muted); font-size: .875rem; vertical-align: bottom; }
.number { text-align: end; } td.number { white-space: nowrap; } .bar { width: 35%; } .both .bar { width: 25%; }
svg { display: block; width: 100%; height: .8rem; min-width: 4rem; }
svg .for-bar { fill: rgb(var(--for)); } svg .against-bar { fill: rgb(var(--against)); }
svg .weight-bar { fill: rgb(var(--weight)); } svg line { stroke: var(--muted); }
.scroll { overflow-x: auto; }
.scroll table { width: auto; font-size: .85rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--muted); }
summary:focus-visible, .scroll:focus-visible { outline: 2px solid rgb(var(--for)); }
dt { font-weight: 600; margin-top: .5rem; } dd { margin: 0; }
@media (min-width: 70rem) {
  .compare { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.25rem; }
  .compare > .both { grid-column: 1 / -1; }
  .compare > article { display: grid; grid-row: span 7; grid-template-rows: subgrid; grid-template-columns: 100%; }
}
@media print { article { break-inside: auto; } .mark, svg { print-color-adjust: exact; } }
"""
