// What does not fit: `[words, ...]`, empty where everything does. What may be scrolled to by keyboard
// fits; what is hidden from sight for screen readers is no matter of fit.
() => {
  const width = document.documentElement.clientWidth;
  const found = [];
  const named = (element) => {
    const id = element.id ? `#${element.id}` : "";
    const classes = typeof element.className === "string" ? element.className.trim() : "";
    const kinds = classes ? `.${classes.replace(/\s+/g, ".")}` : "";
    return `<${element.localName}${id}${kinds}> ${element.textContent.trim().slice(0, 60)}`;
  };
  const unseen = (element) => element.closest(".unseen, .skip, [hidden]") !== null;
  const hides = (value) => value === "hidden" || value === "clip";
  const scrolls = (value) => value === "auto" || value === "scroll";
  const within = (element) => {
    for (let outer = element.parentElement; outer !== null; outer = outer.parentElement) {
      if (outer.localName !== "html" && scrolls(getComputedStyle(outer).overflowX)) return outer;
    }
    return null;
  };
  if (document.documentElement.scrollWidth > width) {
    found.push(`the page is ${document.documentElement.scrollWidth} px wide in ${width} px`);
  }
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility({ visibilityProperty: true }) || unseen(element)) continue;
    const style = getComputedStyle(element);
    if (style.clipPath !== "none") continue; // hidden from sight, read aloud
    const box = element.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) continue;
    const scroller = within(element);
    if (scroller !== null) {
      const overflows = scroller.scrollWidth > scroller.clientWidth + 1;
      if (overflows && scroller.tabIndex < 0) found.push(`no key scrolls ${named(scroller)}`);
    } else if (box.right > width + 1 || box.left < -1) {
      found.push(`beyond the edge: ${named(element)}`);
    }
    if (element.namespaceURI.endsWith("/svg")) continue;
    const wide = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
    const high = element.scrollHeight > element.clientHeight + 1 && element.clientHeight > 0;
    if ((wide && hides(style.overflowX)) || (high && hides(style.overflowY))) {
      found.push(`clipped: ${named(element)}`);
    }
    const control = element.matches("button, select, .button, .state");
    if (control && wide) found.push(`its words do not fit: ${named(element)}`);
  }
  for (const text of document.querySelectorAll("figure svg text")) {
    const box = text.getBoundingClientRect();
    const outer = text.ownerSVGElement.getBoundingClientRect();
    if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.top < outer.top - 1) {
      found.push(`clipped in a chart: ${text.textContent}`);
    }
  }
  return [...new Set(found)];
}
