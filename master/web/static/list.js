// The list of runs, newest first.

import { useAnswer } from "./api.js";
import { Age, Chip, Origin, RunMark, Trouble, elapsed } from "./parts.js";

const { React, ReactRouterDOM } = window;
const { Link } = ReactRouterDOM;
const h = React.createElement;

const TOPBAR = [{ caption: "Pipelines", route: "/pipelines" }];

function isLive(answer) {
  return answer.runs.some((run) => run.live);
}

function Entry({ run }) {
  const why = run.live ? run.cancelled || run.held : run.result_reason;
  return h(
    "li",
    { className: "mlc-ci-run" },
    h(
      "div",
      { className: "mlc-ci-run-head" },
      h(RunMark, { run }),
      h(Link, { to: `/pipelines/${run.id}`, className: "mlc-ci-title" }, `#${run.id} `, run.title || "(no message)"),
      h(
        "span",
        { className: "text-muted mlc-ci-times" },
        elapsed(run.created_at, run.ended_at),
        " · ",
        h(Age, { at: run.created_at }),
      ),
    ),
    h("div", { className: "text-muted small mlc-ci-origin" }, h(Origin, { run })),
    h(
      "div",
      { className: "mlc-ci-chips" },
      run.stages.map((stage) => h(Chip, { key: `${stage.name}/${stage.variant}`, stage })),
    ),
    why && h("div", { className: "small mlc-ci-reason" }, why),
  );
}

function Empty({ branch }) {
  return h(
    "div",
    { className: "card" },
    h(
      "div",
      { className: "card-body" },
      h("h2", { className: "h5" }, "Nothing has run yet"),
      h("p", null, "A run starts when something happens in the repository, or when you ask for it:"),
      h(
        "ul",
        { className: "mb-0" },
        h("li", null, "push a commit to ", h("code", null, branch), ", or a version tag,"),
        h("li", null, "open a pull request,"),
        h("li", null, "type ", h("code", null, `mlc-ci run --ref ${branch}`), " on the master's machine, or"),
        h("li", null, "press Force on the page of a ", h(Link, { to: "/builders" }, "builder"), ", once you are logged in."),
      ),
    ),
  );
}

function Pages({ before, older }) {
  if (!before && !older) {
    return null;
  }
  return h(
    "nav",
    { className: "mlc-ci-pages", "aria-label": "pages of runs" },
    before ? h(Link, { to: "/pipelines" }, "Newest runs") : h("span"),
    older ? h(Link, { to: `/pipelines?before=${older}` }, "Older runs") : h("span"),
  );
}

export default function List() {
  const [search] = ReactRouterDOM.useSearchParams();
  const before = search.get("before");
  const [answer, error] = useAnswer(before ? `runs?before=${encodeURIComponent(before)}` : "runs", isLive);
  window.BuildbotUi.useTopbarItems(TOPBAR);

  return h(
    "div",
    { className: "container mlc-ci" },
    h("h1", { className: "sr-only" }, "Pipelines"),
    error && h(Trouble, { error, stale: answer !== null }),
    answer?.trouble && h("div", { className: "alert alert-warning", role: "alert" }, answer.trouble),
    !answer && !error && h("p", { className: "text-muted" }, "Loading…"),
    answer && answer.runs.length === 0 && !before && h(Empty, { branch: answer.default_branch }),
    answer && answer.runs.length === 0 && before && h("p", null, "There are no older runs."),
    answer && h("ul", { className: "list-unstyled" }, answer.runs.map((run) => h(Entry, { key: run.id, run }))),
    answer && h(Pages, { before, older: answer.older }),
  );
}
