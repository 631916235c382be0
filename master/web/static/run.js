// The page of one run.

import { address, order, useAnswer } from "./api.js";
import { Failure, FailureClass, failed } from "./failure.js";
import { Age, Mark, Origin, RunMark, Tests, Trouble, buildRoute, elapsed, isHeld, size, stageName, stageRoute } from "./parts.js";
import { Usage } from "./usage.js";

const { React, ReactRouterDOM } = window;
const { Link } = ReactRouterDOM;
const h = React.createElement;

function isLive(run) {
  return run.live;
}

function Button({ children, refused, onClick, kind = "secondary" }) {
  const [busy, setBusy] = React.useState(false);
  const act = async () => {
    setBusy(true);
    await onClick();
    setBusy(false);
  };
  return h(
    "button",
    {
      type: "button",
      className: `btn btn-sm btn-outline-${kind}`,
      disabled: busy || Boolean(refused),
      title: refused || undefined,
      onClick: act,
    },
    children,
  );
}

function Head({ run, give }) {
  const cancel = async () => {
    if (window.confirm(`Cancel run ${run.id}? Its stages that have not ended will be stopped.`)) {
      await give("cancel", {});
    }
  };
  const approve = async () => {
    const whose = run.author ? `${run.author}'s commit` : "commit";
    if (window.confirm(`Approve ${whose} ${run.head}? Its code then runs on the untrusted workers.`)) {
      await give("approve", { head: run.head }); // what is on the page, whatever has been pushed since
    }
  };
  const [title, ...rest] = run.message.trim().split("\n");
  const body = rest.join("\n").trim();
  return h(
    "header",
    null,
    h(
      "div",
      { className: "mlc-ci-run-head" },
      h(RunMark, { run }),
      h("h1", { className: "h4 mlc-ci-title mb-0" }, `#${run.id} `, title || "(no message)"),
    ),
    h("div", { className: "mlc-ci-origin" }, h(Origin, { run })),
    h(
      "div",
      { className: "text-muted" },
      "started ",
      h(Age, { at: run.created_at }),
      `, ${run.live ? `${isHeld(run) ? "waiting" : "running"} for` : "took"} ${elapsed(run.created_at, run.ended_at)}`,
      !run.publish && ", publishes nothing",
      !run.trusted && ", untrusted",
    ),
    run.reason && h("div", { className: "text-muted" }, run.reason),
    body && h("details", { className: "small" }, h("summary", null, "whole message"), h("pre", null, run.message)),
    run.live && (run.cancelled || run.held) && h("div", { className: "mlc-ci-reason" }, run.cancelled || run.held),
    !run.live && run.result_reason && h("div", { className: "mlc-ci-reason" }, run.result_reason),
    run.may_control &&
      h(
        "div",
        { className: "mlc-ci-orders" },
        isHeld(run) && h(Button, { kind: "success", onClick: approve }, `Approve commit ${run.head.slice(0, 10)}`),
        h(
          Button,
          { kind: "primary", refused: run.repeat_refused, onClick: () => give("repeat", { stage: "" }) },
          "Run failed stages again",
        ),
        run.live && h(Button, { kind: "danger", refused: run.cancelled, onClick: cancel }, "Cancel"),
      ),
  );
}

function Logs({ attempt }) {
  if (!attempt.build) {
    return null;
  }
  const base = buildRoute(attempt.build);
  return attempt.logs.map((log) =>
    h(
      React.Fragment,
      { key: `${log.step_number}/${log.slug}` },
      " · ",
      h(Link, { to: `${base}/steps/${log.step_number}/logs/${log.slug}` }, `${log.step} ${log.name}`),
    ),
  );
}

function Place({ attempt }) {
  const to = stageRoute(attempt);
  return to && h(React.Fragment, null, h(Link, { to }, attempt.build ? `build ${attempt.build.number}` : "waiting"), h(Logs, { attempt }));
}

// Their logs are asked for once somebody opens them.
function Earlier({ attempts, run }) {
  const [open, setOpen] = React.useState(false);
  return h(
    "details",
    { className: "small", onToggle: (event) => setOpen(event.currentTarget.open) },
    h("summary", null, attempts.length === 1 ? "1 earlier attempt" : `${attempts.length} earlier attempts`),
    h(
      "ul",
      { className: "list-unstyled mb-0" },
      attempts.map((attempt) =>
        h(
          "li",
          { key: attempt.id },
          h(Mark, { state: attempt.state }, `attempt ${attempt.number}: ${attempt.state}`),
          " ",
          [attempt.reason, elapsed(attempt.started_at, attempt.ended_at), attempt.worker].filter(Boolean).join(", "),
          " ",
          h(Place, { attempt }),
          open && failed(attempt) && h(Failure, { run, attempt }),
        ),
      ),
    ),
  );
}

function Stage({ stage, first, run, give }) {
  const [attempt, ...earlier] = stage.history;
  const unended = stage.needs.filter((need) => run.stages.some((other) => other.name === need && other.live));
  const reason = stage.reason || (stage.state === "pending" && unended.length ? `after ${unended.join(", ")}` : "");
  const waits = stage.state === "queued" && stage.waiting_since ? `waits for ${elapsed(stage.waiting_since)}` : "";
  return h(
    "tr",
    null,
    h("th", { scope: "row" }, stageName(stage)),
    h("td", null, h(Mark, { state: stage.state }, stage.state)),
    h(
      "td",
      { className: "mlc-ci-what" },
      reason && h("div", { className: "mlc-ci-reason" }, h(FailureClass, { attempt }), " ", reason),
      stage.build?.doing && h("div", { className: "text-muted" }, stage.build.doing),
      h(Place, { attempt }),
      failed(attempt) && h(Failure, { run, attempt }),
      attempt.tests && h(Tests, { tests: attempt.tests }),
      attempt.images.length > 0 && h(Images, { images: attempt.images }),
      attempt.used.length > 0 && h(Usage, { used: attempt.used }),
      earlier.length > 0 && h(Earlier, { attempts: earlier, run }),
    ),
    h("td", { "data-label": "duration", className: "text-nowrap" }, elapsed(stage.started_at, stage.ended_at) || waits),
    h("td", { "data-label": "worker", className: "text-nowrap" }, stage.worker && h(Link, { to: "/workers" }, stage.worker)),
    run.may_control &&
      h(
        "td",
        { className: "text-nowrap" },
        // an order is for a stage, with all its variants
        first &&
          h(Button, { refused: stage.repeat_refused, onClick: () => give("repeat", { stage: stage.name }) }, "Run again"),
      ),
  );
}

// What was published: the digest, which means the same for good, and the tags that lead to it.
function Images({ images }) {
  return images.map((image) =>
    h(
      "div",
      { key: image.digest, className: "small" },
      h("code", { title: "docker pull" }, `${image.repository}@${image.digest}`),
      ` ${image.tags.join(", ")}`,
      image.kept.length > 0 && `; ${image.kept.join(", ")} stayed with a newer commit`,
    ),
  );
}

function Stages({ run, give }) {
  return h(
    "table",
    { className: "table mlc-ci-stages" },
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        ["Stage", "State", "What happened", "Duration", "Worker"].map((name) => h("th", { key: name, scope: "col" }, name)),
        run.may_control && h("th", { scope: "col" }, h("span", { className: "sr-only" }, "Orders")),
      ),
    ),
    h(
      "tbody",
      null,
      run.stages.map((stage, place) =>
        h(Stage, {
          key: `${stage.name}/${stage.variant}`,
          first: run.stages[place - 1]?.name !== stage.name,
          stage,
          run,
          give,
        }),
      ),
    ),
  );
}

// What each stage left: its newest attempt that left anything, for a repetition takes nothing back.
function Artifacts({ run }) {
  const files = run.stages.flatMap((stage) => {
    const source = stage.history.find((attempt) => attempt.artifacts.length > 0);
    return source ? source.artifacts.map((file) => ({ stage, source, file })) : [];
  });
  return (
    files.length > 0 &&
    h(
      "section",
      null,
      h("h2", { className: "h5" }, "Artifacts"),
      h(
        "ul",
        { className: "list-unstyled" },
        files.map(({ stage, source, file }) =>
          h(
            "li",
            { key: file.link, className: "mlc-ci-artifact" },
            file.removed
              ? h("span", { title: "removed when its time was over" }, h("s", null, file.name), " (expired)")
              : h("a", { href: address(file.link), download: true }, file.name),
            h(
              "span",
              { className: "text-muted" },
              ` ${size(file.size)}, from ${stageName(stage)}`,
              source.number < stage.attempts && `, attempt ${source.number}`,
              source.ended_at && [", ", h(Age, { key: "age", at: source.ended_at })],
            ),
            h("code", { className: "small", title: "SHA-256" }, file.sha256),
          ),
        ),
      ),
    )
  );
}

function Journal({ run }) {
  return (
    run.journal.length > 0 &&
    h(
      "section",
      null,
      h("h2", { className: "h5" }, "Journal"),
      h(
        "ul",
        { className: "list-unstyled small" },
        run.journal.map((note, place) =>
          h("li", { key: place }, h("span", { className: "text-muted" }, h(Age, { at: note.at })), " ", note.text),
        ),
      ),
    )
  );
}

export default function Run() {
  const { id } = ReactRouterDOM.useParams();
  const [run, error, refresh] = useAnswer(`runs/${encodeURIComponent(id)}`, isLive);
  const [refusal, setRefusal] = React.useState("");
  const topbar = React.useMemo(
    () => [
      { caption: "Pipelines", route: "/pipelines" },
      { caption: `Run ${id}`, route: `/pipelines/${id}` },
    ],
    [id],
  );
  window.BuildbotUi.useTopbarItems(topbar);

  const give = async (action, body) => {
    try {
      await order(`runs/${id}/${action}`, body);
      setRefusal("");
    } catch (failed) {
      setRefusal(failed.message);
    }
    refresh();
  };

  return h(
    "div",
    { className: "container mlc-ci" },
    error && h(Trouble, { error, stale: run !== null }),
    refusal && h("div", { className: "alert alert-danger", role: "alert" }, refusal),
    !run && !error && h("p", { className: "text-muted" }, "Loading…"),
    run && [
      h(Head, { key: "head", run, give }),
      h(Stages, { key: "stages", run, give }),
      h(Artifacts, { key: "artifacts", run }),
      h(Journal, { key: "journal", run }),
    ],
  );
}
