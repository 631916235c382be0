// Why an attempt failed: whose fault it is, and its log around the first line that says so.

import { useOnce } from "./api.js";
import { Mark, buildRoute } from "./parts.js";

const { React, ReactRouterDOM } = window;
const h = React.createElement;

// The state's colours; the words say what they mean.
const CLASSES = { code: ["failure", "the code is at fault"], infrastructure: ["infrastructure", "the CI is at fault"] };

function Line({ line, marked }) {
  const className = marked ? "mlc-ci-line mlc-ci-line-marked" : "mlc-ci-line";
  return h(
    "div",
    { className: line.header ? `${className} text-muted` : className, "aria-current": marked || undefined },
    h("span", { className: "mlc-ci-line-number" }, line.number),
    marked ? "▶ " : "  ",
    line.text,
    "\n",
  );
}

function Log({ failure, build }) {
  const to = `${buildRoute(build)}/steps/${failure.step_number}/logs/${failure.log}`;
  const where = failure.line ? `line ${failure.line} of the log of ${failure.step}` : `the end of the log of ${failure.step}`;
  return h(
    "figure",
    { className: "mlc-ci-excerpt" },
    h("figcaption", { className: "small" }, where, " · ", h(ReactRouterDOM.Link, { to }, "whole log")),
    h(
      "pre",
      { tabIndex: 0 },
      failure.lines.map((line) => h(Line, { key: line.number, line, marked: line.number === failure.line })),
    ),
  );
}

export function FailureClass({ attempt }) {
  const known = CLASSES[attempt.failure];
  return known ? h(Mark, { state: known[0] }, known[1]) : null;
}

// The excerpt, asked for once: a failed build's log does not change any more.
export function Failure({ run, attempt }) {
  const [failure, error] = useOnce(`runs/${run.id}/attempts/${attempt.id}/failure`);
  if (error) {
    return h("div", { className: "small text-muted" }, `no log to show: ${error.message}`);
  }
  if (!failure) {
    return h("div", { className: "small text-muted" }, "Loading the log…");
  }
  return failure.missing
    ? h("div", { className: "small text-muted" }, failure.step ? `step ${failure.step} failed; ${failure.missing}` : failure.missing)
    : h(Log, { failure, build: attempt.build });
}

// Whether there is a failure to show: a run that was never built has no log.
export function failed(attempt) {
  return Boolean(attempt.failure && attempt.build && !attempt.live);
}
