// Small and own: live pages, forms without a reload, the clock, Web Push. Without it every page still works.
"use strict";
(() => {
  const inFrame = window !== window.parent;
  const lang = document.documentElement.lang || "en";

  // --- patching: the new page is laid over the old one, so that focus, scroll and open parts stay ---
  const KEEP = new Set(["open", "hidden"]);
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function attributes(from, to) {
    for (const { name } of [...from.attributes])
      if (!to.hasAttribute(name) && !KEEP.has(name)) from.removeAttribute(name);
    for (const { name, value } of [...to.attributes])
      if (!(KEEP.has(name) && from.nodeName !== "BODY") && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }

  function patch(from, to) {
    if (from.nodeType !== 1) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (from.dataset.clock !== undefined) return clockFrom(from, to);
    if (from.nodeName === "IFRAME") return;
    attributes(from, to);
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(from.nodeName)) return;
    children(from, to);
  }

  function children(from, to) {
    let old = from.firstChild;
    for (const next of [...to.childNodes]) {
      if (next.id && !(old && same(old, next))) {
        const known = [...from.childNodes].find((node) => node.id === next.id && same(node, next));
        if (known) { from.insertBefore(known, old); old = known; }
      }
      if (old && same(old, next)) { patch(old, next); old = old.nextSibling; }
      else from.insertBefore(next, old);
    }
    while (old) { const gone = old; old = old.nextSibling; gone.remove(); }
  }

  function lay(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    document.title = page.title;
    const root = document.documentElement;
    const theme = page.documentElement.dataset.theme;
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    root.lang = page.documentElement.lang;
    hideSeenPushes(page);
    for (const kept of page.querySelectorAll("#offline")) kept.hidden = true;
    patch(document.body, page.body);
    ready();
  }

  // --- staying up to date ---
  let asking = null, again = false, timer = 0;
  async function refresh() {
    if (asking) { again = true; return; }
    last = performance.now();
    asking = fetch(location.href, { headers: { "X-Fragment": "1" }, credentials: "same-origin" });
    try {
      const answer = await asking;
      if (answer.ok && !answer.redirected) lay(await answer.text());
    } catch { /* the stream says when we are back */ }
    asking = null;
    if (again) { again = false; soon(); }
  }
  let last = 0;
  function soon(delay = 120) {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(delay, delay && last + 600 - performance.now()));
  }

  const offline = (yes) => { const banner = document.getElementById("offline"); if (banner) banner.hidden = !yes; };
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("touchpoint") : null;

  function hear(kind, data) {
    if (kind === "change") soon();
    else if (kind === "clock") setClock(JSON.parse(data));
    else if (kind === "offline") offline(true);
    else if (kind === "online") { offline(false); soon(); }
  }

  function listen() {
    const as = document.body.dataset.as;
    const stream = new EventSource("/events" + (as ? "?as=" + as : ""));
    let lost = 0;
    for (const kind of ["change", "clock"]) stream.addEventListener(kind, (event) => { hear(kind, event.data); tellFrames(kind, event.data); });
    stream.onopen = () => { clearTimeout(lost); if (!lost) return; lost = 0; hear("online"); tellFrames("online"); };
    stream.onerror = () => { if (!lost) lost = setTimeout(() => hear("offline"), 3000); };
  }
  // A page in a frame hears its parent: a browser opens six connections to a host, streams are dear.
  function tellFrames(kind, data) {
    for (const frame of document.querySelectorAll("iframe[data-face]"))
      frame.contentWindow?.postMessage({ touchpoint: kind, data }, location.origin);
  }
  window.addEventListener("message", (event) => {
    if (event.origin !== location.origin || !event.data || !event.data.touchpoint) return;
    if (event.data.touchpoint === "acted") { soon(0); return; }
    hear(event.data.touchpoint, event.data.data);
  });
  channel?.addEventListener("message", () => soon());

  // --- forms and links answer in place ---
  async function send(form, button) {
    const body = new URLSearchParams(new FormData(form));
    if (button?.name) body.set(button.name, button.value);
    if (button) { button.setAttribute("aria-busy", "true"); if (button.classList.contains("slot")) button.setAttribute("aria-pressed", "true"); }
    try {
      const answer = await fetch(form.getAttribute("action") || location.href, { method: "POST", body, credentials: "same-origin" });
      const text = await answer.text();
      const there = new URL(answer.url);
      const url = there.pathname + there.search;
      if (answer.redirected && url !== location.pathname + location.search) history.pushState(null, "", url);
      lay(text);
      if (answer.redirected && there.pathname !== lastPath) window.scrollTo(0, 0);
      lastPath = location.pathname;
      if (inFrame) window.parent.postMessage({ touchpoint: "acted" }, location.origin);
      else tellFrames("change", "{}");
      channel?.postMessage("acted");
    } catch {
      form.submit();
    }
  }
  let lastPath = location.pathname;
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method.toLowerCase() !== "post" || /^\/sign-/.test(form.getAttribute("action") || "")) return;
    event.preventDefault();
    send(form, event.submitter);
  });
  window.addEventListener("popstate", refresh);

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-close],[data-print],[data-subscribe]");
    if (!target) return;
    if (target.matches("[data-print]")) window.print();
    else if (target.matches("[data-close]")) { seen(target.closest("[data-push]").dataset.push); target.closest("[data-push]").remove(); }
    else subscribe(target);
  });

  // --- the clock: a moment, and how fast time runs ---
  const FORMS = {
    time: { hour: "numeric", minute: "2-digit" },
    clock: { hour: "numeric", minute: "2-digit", second: "2-digit" },
    medium: { weekday: "short", day: "numeric", month: "short" },
    long: { weekday: "long", day: "numeric", month: "long" },
    "full-clock": { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit", second: "2-digit" },
  };
  let base = null; // {now, at, speed}
  const formats = new Map();
  function say(ms, style, zone) {
    const key = style + zone + document.documentElement.lang;
    if (!formats.has(key))
      formats.set(key, new Intl.DateTimeFormat(document.documentElement.lang === "de" ? "de-DE" : "en-GB", { ...FORMS[style], timeZone: zone, hourCycle: "h23" }));
    return formats.get(key).format(ms).replace(/^0(\d:)/, "$1").replace(/, 0(\d:)/, ", $1");
  }
  function setClock(data) { base = { now: data.now, at: performance.now(), speed: data.speed }; paint(); }
  function clockFrom(from, to) {
    from.dataset.now = to.dataset.now;
    if (to.dataset.speed !== undefined) from.dataset.speed = to.dataset.speed;
    base = { now: Number(to.dataset.now), at: performance.now(), speed: Number(to.dataset.speed ?? 1) };
  }
  function paint() {
    if (!base) return;
    const now = base.now + (performance.now() - base.at) * base.speed;
    for (const clock of document.querySelectorAll("[data-clock]")) {
      const text = say(now, clock.dataset.style, clock.dataset.zone);
      if (clock.textContent !== text) clock.textContent = text;
    }
  }

  // --- toasts and pushes that were seen ---
  const SEEN = "touchpoint-pushes";
  const seenPushes = () => new Set(JSON.parse(sessionStorage.getItem(SEEN) || "[]"));
  function seen(key) { sessionStorage.setItem(SEEN, JSON.stringify([...seenPushes(), key].slice(-50))); }
  function hideSeenPushes(page) {
    const known = seenPushes();
    for (const push of page.querySelectorAll("[data-push]")) if (known.has(push.dataset.push)) push.remove();
  }
  const held = new Set();
  function ready() {
    const toast = document.querySelector("[data-toast]");
    if (toast && !toast.dataset.timed) {
      toast.dataset.timed = "1";
      setTimeout(() => {
        toast.remove();
        const url = new URL(location.href);
        url.searchParams.delete("said");
        history.replaceState(null, "", url.pathname + url.search);
      }, 9000);
    }
    const hold = document.querySelector("[data-hold]");
    if (hold && !held.has(hold.dataset.hold)) {
      held.add(hold.dataset.hold); // the times are kept while somebody looks at them
      fetch(hold.dataset.hold, { method: "POST", credentials: "same-origin" }).then(() => refresh(), () => {});
    }
    const offer = document.getElementById("notify");
    if (offer && "PushManager" in window && Notification.permission === "default") offer.hidden = false;
  }

  // --- Web Push, only when tapped ---
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  async function subscribe(button) {
    try {
      if ((await Notification.requestPermission()) !== "granted") throw new Error("denied");
      const worker = await navigator.serviceWorker.register("/static/sw.js", { scope: "/" });
      await navigator.serviceWorker.ready;
      const subscription = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(button.dataset.subscribe) });
      const answer = await fetch("/me/subscriptions", {
        method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...subscription.toJSON(), label: navigator.userAgentData?.platform || navigator.platform || "" }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      refresh();
    } catch {
      button.disabled = true;
      button.textContent = lang === "de" ? "Dieser Browser lässt keine Mitteilungen zu" : "This browser allows no notifications";
    }
  }

  hideSeenPushes(document);
  const first = document.querySelector("[data-clock]");
  if (first) { base = { now: Number(first.dataset.now), at: performance.now(), speed: Number(first.dataset.speed ?? 1) }; }
  setInterval(paint, 250);
  ready();
  if (!inFrame && document.body.dataset.as) listen();
})();
