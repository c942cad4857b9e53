// Light, dark, or as the system has it. Runs before the first paint; the button comes to life in live.js.
"use strict";
const theme = localStorage.getItem("lens-theme");
if (theme) document.documentElement.dataset.theme = theme;
