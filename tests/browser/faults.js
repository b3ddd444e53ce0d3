() => {
  const faults = [];
  const seen = (element) => element.checkVisibility();
  const say = (what, element) => faults.push(`${what}: ${element.outerHTML.slice(0, 90)}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`twice: #${id}`);
  for (const name of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      const target = document.getElementById(element.getAttribute(name));
      if (!target) say(`${name} leads nowhere`, element);
      else if (name === "aria-labelledby" && seen(element) && !target.textContent.trim()) say("empty label", element);
    }
  }
  for (const field of document.querySelectorAll("input, select, textarea")) {
    if (!field.labels.length || !field.labels[0].textContent.trim()) say("no label", field);
  }
  for (const element of document.querySelectorAll("button, a, summary")) {
    if (!element.textContent.trim()) say("no name", element);
  }
  for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) say("no alt", image);
  for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) say("order", element);
  for (const element of document.querySelectorAll("[style*=expression], script:not([src]), style")) say("inline", element);
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((h) => Number(h.tagName[1]));
  levels.forEach((level, i) => { if (level - (levels[i - 1] ?? 0) > 1) faults.push(`levels ${levels}`); });
  if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
  for (const [name, count] of [["header", 1], ["main", 1], ["footer", 1]]) {
    if (document.querySelectorAll(`body > ${name}`).length !== count) faults.push(name);
  }
  if (document.documentElement.lang !== "en" || !document.title) faults.push("language or title");
  for (const element of document.querySelectorAll("button, .button, select, input[type=range], summary")) {
    const box = element.getBoundingClientRect();
    if (seen(element) && !element.closest(".hidden") && (box.height < 23.5 || box.width < 23.5)) say("small", element);
  }
  return faults;
}
