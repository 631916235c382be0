// The pipelines page, a plugin of Buildbot's React interface. It needs no build step: Buildbot's page provides
// React, the router and moment as globals, and the modules beside this file are loaded as they are.
//
// Buildbot's page loads this file as a classic script, so this file only fetches the modules and registers them.

(function registerPipelines() {
  const { React, BuildbotPluginSupport } = window;
  const folder = document.currentScript.src;
  const load = (name) => import(new URL(name, folder).href);

  function Icon() {
    const h = React.createElement;
    return h(
      "svg",
      { viewBox: "0 0 16 16", width: "1em", height: "1em", fill: "currentColor", "aria-hidden": true },
      h("path", { d: "M3 8h5M8 8l4-4M8 8l4 4", stroke: "currentColor", strokeWidth: 1.5 }),
      [[3, 8], [8, 8], [12.5, 3.5], [12.5, 12.5]].map(([cx, cy]) =>
        h("circle", { key: `${cx},${cy}`, cx, cy, r: 2.2 }),
      ),
    );
  }

  function BoardIcon() {
    const h = React.createElement;
    return h(
      "svg",
      { viewBox: "0 0 16 16", width: "1em", height: "1em", fill: "none", stroke: "currentColor", "aria-hidden": true },
      h("rect", { x: 3.5, y: 3.5, width: 9, height: 9, rx: 1, strokeWidth: 1.5 }),
      h("path", { d: "M6 1v2M10 1v2M6 13v2M10 13v2M1 6h2M1 10h2M13 6h2M13 10h2", strokeWidth: 1.2 }),
    );
  }

  // Shows a component of a module, once the module has arrived.
  function loaded(name) {
    const Component = React.lazy(() => load(name));
    const waiting = React.createElement("div", { className: "container" }, "Loading…");
    return () => React.createElement(React.Suspense, { fallback: waiting }, React.createElement(Component));
  }

  const List = loaded("list.js");
  const Run = loaded("run.js");
  const Fleet = loaded("fleet.js");

  BuildbotPluginSupport.buildbotSetupPlugin((registration) => {
    registration.registerMenuGroup({
      name: "pipelines",
      caption: "Pipelines",
      icon: React.createElement(Icon),
      order: 0,
      route: "/pipelines",
      parentName: null,
    });
    registration.registerMenuGroup({
      name: "fleet",
      caption: "Fleet",
      icon: React.createElement(BoardIcon),
      order: 1,
      route: "/fleet",
      parentName: null,
    });
    registration.registerRoute({
      route: "/fleet",
      group: "fleet",
      element: () => React.createElement(Fleet),
    });
    registration.registerRoute({
      route: "/pipelines",
      group: "pipelines",
      element: () => React.createElement(List),
    });
    registration.registerRoute({
      route: "/pipelines/:id",
      group: "pipelines",
      element: () => React.createElement(Run),
    });
  });
})();
