// Before the first paint: the look that the person chose here, if not the system's.
"use strict";
const chosen = localStorage.getItem("accord-theme");
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
