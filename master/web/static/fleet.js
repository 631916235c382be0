// The fleet: each worker, what its host has, who holds which GPU since when, and what waits and why.

import { useAnswer } from "./api.js";
import { Age, Trouble, elapsed, stageName } from "./parts.js";

const { React, ReactRouterDOM } = window;
const { Link } = ReactRouterDOM;
const h = React.createElement;

const TOPBAR = [{ caption: "Fleet", route: "/fleet" }];
const GIB = 2 ** 30;

const isLive = (answer) => answer.queue.length > 0 || answer.workers.some((worker) => worker.leases.length > 0);

function gib(bytes) {
  return (Math.floor((bytes / GIB) * 10) / 10).toFixed(1);
}

function facts(device) {
  const apis = Object.entries(device.apis).map(([api, version]) => `${api} ${version ?? ""}`.trim());
  const free = device.memory_free === null ? "" : `${gib(device.memory_free)} of `;
  return [
    ...apis,
    device.compute && `compute ${device.compute}`,
    device.memory_total !== null && `${free}${gib(device.memory_total)} GiB${free && " free"}`,
    device.software && "software",
    device.mig && "split by MIG",
    ...device.ailing,
  ].filter(Boolean);
}

function Lease({ lease }) {
  const part = lease.memory === null ? "held" : `${gib(lease.memory)} GiB held`;
  const who = lease.run === null ? "a build" : h(Link, { to: `/pipelines/${lease.run}` }, `run ${lease.run}, ${lease.stage}`);
  return h("div", null, h("strong", null, part), " by ", who, ` for ${elapsed(lease.since)}`);
}

function Gpu({ device, worker }) {
  const why = worker.quarantined[device.id];
  return h(
    "li",
    null,
    h("div", null, device.name, " ", h("code", { className: "small" }, device.id)),
    h("div", { className: "text-muted small" }, facts(device).join(", ")),
    why && h("div", { className: "mlc-ci-reason" }, `quarantined: ${why}`),
    worker.leases.filter((lease) => lease.gpu === device.id).map((lease) => h(Lease, { key: lease.request, lease })),
  );
}

function Worker({ worker }) {
  const tools = Object.entries(worker.tools).map(([name, version]) => `${name} ${version}`);
  return h(
    "li",
    { className: "mlc-ci-run" },
    h(
      "div",
      { className: "mlc-ci-run-head" },
      h("h2", { className: "h6 mb-0" }, worker.name),
      h("span", null, worker.connected ? "connected" : worker.container ? "container, started on demand" : "not connected"),
      h("span", { className: "text-muted mlc-ci-times" }, worker.read_at && ["probed ", h(Age, { key: "at", at: worker.read_at })]),
    ),
    h("div", { className: "text-muted small" }, [worker.trust, worker.os, ...worker.provides].join(", ")),
    worker.container && h("div", { className: "text-muted small" }, "image ", h("code", null, worker.container)),
    worker.refused && h("div", { className: "small mlc-ci-reason" }, `not used: ${worker.refused}`),
    (worker.connected || worker.container) && worker.unknown && h("div", { className: "small mlc-ci-reason" }, worker.unknown),
    worker.devices.length > 0 &&
      h("ul", { className: "mb-1" }, worker.devices.map((device) => h(Gpu, { key: device.id, device, worker }))),
    tools.length > 0 && h("div", { className: "small" }, tools.join(", ")),
    worker.problems.map((problem, place) =>
      h("div", { key: place, className: "small mlc-ci-reason" }, `${problem.part}: ${problem.what}`),
    ),
  );
}

function Waiting({ queue }) {
  return h(
    React.Fragment,
    null,
    h("h2", { className: "h6" }, "Queue"),
    h(
      "ul",
      null,
      queue.map((each) =>
        h(
          "li",
          { key: `${each.run}/${each.stage}/${each.variant}` },
          h(Link, { to: `/pipelines/${each.run}` }, `run ${each.run}, `, stageName({ ...each, name: each.stage })),
          ` for ${elapsed(each.since)}`,
          h("span", { className: "text-muted" }, `: ${each.reason || "waits for its turn"}`),
        ),
      ),
    ),
  );
}

export default function Fleet() {
  const [answer, error] = useAnswer("workers", isLive);
  window.BuildbotUi.useTopbarItems(TOPBAR);
  return h(
    "div",
    { className: "container mlc-ci" },
    h("h1", { className: "sr-only" }, "Fleet"),
    error && h(Trouble, { error, stale: answer !== null }),
    !answer && !error && h("p", { className: "text-muted" }, "Loading…"),
    answer && answer.queue.length > 0 && h(Waiting, { queue: answer.queue }),
    answer && h("ul", { className: "list-unstyled" }, answer.workers.map((worker) => h(Worker, { key: worker.name, worker }))),
  );
}
