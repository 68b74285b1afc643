"""How everything looks: one sheet for a fragment in a notebook and for a page, on white and on dark."""

LIGHT = "--ink:#1c1c1c;--soft:#5c5c5c;--line:#d0d0d0;--paper:#fff;--c0:#0072B2;--c1:#B84A00;--c2:#00795A;--c3:#A8518A;--c4:#8A6100;--c5:#2B7CB0;--good:#00693E;--bad:#B00020"  # noqa: E501
DARK = "--ink:#e8e8e8;--soft:#a8a8a8;--line:#444;--paper:#161616;--c0:#56B4E9;--c1:#F08B4B;--c2:#3CC79A;--c3:#DE9AC4;--c4:#E6B03C;--c5:#9AD0F5;--good:#5FD39A;--bad:#FF8A8A"  # noqa: E501

SHEET = f"""
.sdplip{{{LIGHT};color:var(--ink);font:14px/1.45 system-ui,sans-serif;max-width:60rem}}
@media(prefers-color-scheme:dark){{.sdplip{{{DARK}}}}}
[data-jp-theme-light="true"] .sdplip,[data-theme="light"] .sdplip,.vscode-light .sdplip{{{LIGHT}}}
[data-jp-theme-light="false"] .sdplip,[data-theme="dark"] .sdplip,.vscode-dark .sdplip{{{DARK}}}
@media print{{.sdplip{{{LIGHT}}}.sdplip details::details-content{{content-visibility:visible;block-size:auto}}
.sdplip figure,.sdplip tr,.sdplip .card{{break-inside:avoid}}}}
.sdplip .wide{{overflow-x:auto;margin:.5rem 0}}
.sdplip table{{color:inherit;border-collapse:collapse;font-size:inherit;margin:0;border:0}}
.sdplip th,.sdplip td{{padding:.2rem .7rem .2rem 0;text-align:left;vertical-align:top;border:0}}
.sdplip th,.sdplip td{{border-bottom:1px solid var(--line);background:none;color:inherit;white-space:normal}}
.sdplip th{{font-weight:600;color:var(--soft)}}
.sdplip td.n,.sdplip th.n{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
.sdplip .facts td{{overflow-wrap:anywhere}}
.sdplip p{{margin:.4rem 0}}
.sdplip .head{{font-weight:600;margin:.2rem 0}}
.sdplip .soft{{color:var(--soft)}}.sdplip .good{{color:var(--good);font-weight:600}}.sdplip .bad{{color:var(--bad);font-weight:600}}
.sdplip code{{font:.93em ui-monospace,monospace;background:none;color:inherit;padding:0;overflow-wrap:anywhere}}
.sdplip summary{{cursor:pointer}}
.sdplip .branch{{border-left:1px solid var(--line);margin-left:.35rem;padding-left:.8rem}}
.sdplip .leaf{{padding-left:1rem}}
.sdplip .figures{{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem}}
.sdplip figure{{margin:.5rem 0;flex:1 1 20rem;max-width:36rem;min-width:0}}
.sdplip figcaption{{font-size:.93em;color:var(--soft)}}
.sdplip .legend{{display:flex;flex-wrap:wrap;gap:0 1rem;font-size:.93em}}
.sdplip .legend svg{{width:26px;height:10px;margin-right:.3rem;vertical-align:middle}}
.sdplip svg{{width:100%;height:auto;display:block}}
.sdplip .legend svg{{display:inline-block}}
.sdplip svg text{{font:12px system-ui,sans-serif;fill:var(--ink)}}
.sdplip svg .soft{{fill:var(--soft)}}
.sdplip .rule{{stroke:var(--line);stroke-width:1}}.sdplip .axis{{stroke:var(--soft);stroke-width:1}}
.sdplip .at rect{{fill:transparent}}.sdplip .at line,.sdplip .at text{{visibility:hidden;pointer-events:none}}
.sdplip .at:hover line,.sdplip .at:hover text{{visibility:visible}}.sdplip .at line{{stroke:var(--ink);stroke-width:1}}
.sdplip .strip{{display:flex;flex-wrap:wrap;gap:.6rem}}
.sdplip .strip img{{width:3.4rem;height:3.4rem;image-rendering:pixelated;border:1px solid var(--line);display:block;margin:0}}
"""
