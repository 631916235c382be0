// What the list and the page of a run are both made of.

import { now } from "./api.js";

const { React, ReactRouterDOM, moment } = window;
const h = React.createElement;

// What a state looks like: never by colour alone.
const MARKS = {
  held: "?",
  pending: "·",
  queued: "…",
  running: "▸",
  success: "✓",
  warnings: "!",
  failure: "✗",
  infrastructure: "✗",
  skipped: "–",
  blocked: "–",
  cancelled: "×",
};

const EVENTS = { push: "push", pull_request: "pull request", tag: "tag", manual: "manual" };

export function stageName(stage) {
  return stage.variant ? `${stage.name} (${stage.variant})` : stage.name;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (hours) {
    return `${hours} h ${minutes} min`;
  }
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

// How long something took, or has taken so far; empty before it began.
export function elapsed(start, end) {
  return start ? duration((end ?? now()) - start) : "";
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function Age({ at }) {
  const then = moment.unix(at);
  return h("time", { dateTime: then.toISOString(), title: then.format("LLLL") }, then.from(moment.unix(now())));
}

export function Mark({ state, children }) {
  return h("span", { className: `mlc-ci-mark mlc-ci-${state}` }, h("span", { "aria-hidden": true }, MARKS[state]), " ", children);
}

export function buildRoute(build) {
  return `/builders/${build.builderid}/builds/${build.number}`;
}

// Where Buildbot shows the stage: its build, or its request while it waits for a worker.
export function stageRoute(stage) {
  if (stage.build) {
    return buildRoute(stage.build);
  }
  return stage.live && stage.request_id ? `/buildrequests/${stage.request_id}` : null;
}

export function RunMark({ run }) {
  const state = runState(run);
  return h(Mark, { state }, state === "held" ? "waits for approval" : state);
}

// One stage of a run as a coloured chip, linked to its build.
export function Chip({ stage }) {
  const time = elapsed(stage.started_at, stage.ended_at);
  const title = [`${stageName(stage)}: ${stage.state}`, stage.reason, stage.build?.doing, time].filter(Boolean).join("\n");
  const again = stage.attempts > 1 ? ` ×${stage.attempts}` : "";
  const content = h(Mark, { state: stage.state }, stageName(stage), again, h("span", { className: "sr-only" }, ` ${stage.state}`));
  const to = stageRoute(stage);
  return to
    ? h(ReactRouterDOM.Link, { to, title, className: "mlc-ci-chip" }, content)
    : h("span", { title, className: "mlc-ci-chip" }, content);
}

// Whether nothing of it starts before a maintainer has approved its commit.
export function isHeld(run) {
  return run.live && Boolean(run.held) && !run.cancelled;
}

// Where the run stands, in one word of a state.
export function runState(run) {
  if (!run.live) {
    return run.result || "cancelled";
  }
  if (isHeld(run)) {
    return "held";
  }
  return run.stages.some((stage) => stage.state === "running") ? "running" : "queued";
}

// What started the run: event, ref, commit, author.
export function Origin({ run }) {
  const ref = run.ref.replace(/^refs\/(heads|tags)\//, "").replace(/^refs\/pull\/(\d+)\/.*$/, "#$1");
  const event = EVENTS[run.event] ?? run.event;
  const treated = run.event === "manual" && run.acts_as !== "push" ? `, as a ${EVENTS[run.acts_as]}` : "";
  return h(
    React.Fragment,
    null,
    h("span", { title: run.trusted ? "runs on trusted workers" : "runs on untrusted workers" }, event, treated),
    " ",
    h("strong", { title: run.ref }, ref),
    " at ",
    h("code", { title: run.head }, run.head.slice(0, 10)),
    run.author && ` by ${run.author}`,
  );
}

// Counts, and the failed tests first: each opens to its message.
export function Tests({ tests }) {
  const said = Object.entries(tests.counts).filter(([, count]) => count > 0);
  return h(
    "div",
    { className: "small" },
    "tests: ",
    said.map(([ended, count]) => `${count} ${ended}`).join(", ") || "none",
    tests.failed.map((test) =>
      h("details", { key: test.name }, h("summary", null, `${test.ended}: ${test.name}`), h("pre", null, test.message)),
    ),
  );
}

export function Trouble({ error, stale }) {
  return h(
    "div",
    { className: "alert alert-warning", role: "alert" },
    error.status ? error.message : "The master does not answer; trying again.",
    stale && " What you see is older.",
  );
}
