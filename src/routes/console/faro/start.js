"use strict";
// Starts Faro: errors, web vitals, the session and the spans of this page go to the address that the page was given.
// From here on a fetch carries `traceparent`: the browser's span is the parent of the server's.

const { url, version } = document.currentScript.dataset;
const { getWebInstrumentations, initializeFaro } = GrafanaFaroWebSdk;
initializeFaro({
  url,
  app: { name: "signalbox-console", namespace: "signalbox", version },
  instrumentations: [...getWebInstrumentations(), new GrafanaFaroWebTracing.TracingInstrumentation()],
});

document.getElementById("throw").addEventListener("click", () => {
  throw new Error("thrown by a click in the console");
});
