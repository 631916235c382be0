// What a build used of its GPUs: the peaks in words, and its course as a small plot.

import { duration } from "./parts.js";

const { React } = window;
const h = React.createElement;

const WIDTH = 240;
const HEIGHT = 48;
const GIB = 2 ** 30;

// As `mlc-ci show` says it.
function words(use) {
  const memory = `${(use.peak_memory / GIB).toFixed(1)} of ${(use.total / GIB).toFixed(1)} GiB at most`;
  return use.mean === null ? memory : `${memory}, busy ${Math.round(use.mean)} % of the time, ${use.peak} % at most`;
}

// Where the board did not tell, or nothing was looked at for long, the line is broken.
function path(points, height) {
  const last = points[points.length - 1][0] || 1;
  const gap = Math.max(3, (last / points.length) * 4);
  let drawn = "";
  let before = null;
  for (const [at, value] of points) {
    if (value === null) {
      before = null;
      continue;
    }
    const x = ((at / last) * WIDTH).toFixed(1);
    const y = (HEIGHT - Math.min(1, value / height) * HEIGHT).toFixed(1);
    drawn += before === null || at - before > gap ? `M${x} ${y}h0.1` : `L${x} ${y}`;
    before = at;
  }
  return drawn;
}

function Plot({ use }) {
  const last = use.points[use.points.length - 1][0];
  const busy = path(use.points.map(([at, percent]) => [at, percent]), 100);
  const memory = path(use.points.map(([at, , mib]) => [at, mib * 2 ** 20]), use.total || 1);
  const told = `${words(use)}, over ${duration(last)}. Solid: memory, up to all of the board's. Dotted: how busy it was, up to 100 %.`;
  return h(
    "svg",
    { className: "mlc-ci-plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told },
    h("title", null, told),
    h("path", { className: "mlc-ci-plot-busy", d: busy }),
    h("path", { className: "mlc-ci-plot-memory", d: memory }),
  );
}

export function Usage({ used }) {
  return used.map((use) =>
    h(
      "div",
      { key: use.gpu, className: "small" },
      h("code", null, use.gpu.slice(0, 12)),
      ` ${words(use)}`,
      use.points.length > 1 && h(Plot, { use }),
    ),
  );
}
