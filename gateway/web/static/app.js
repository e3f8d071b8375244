// Small and own: live pages, forms without a reload, the clock, Web Push. Without it every page still works.
"use strict";
(() => {
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
    if (from.nodeName === "IFRAME" || from.dataset.own !== undefined) return; // what a script has taken over is its own
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
    for (const old of document.querySelectorAll("#as-of, #unsent")) old.hidden = true;
    patch(document.body, page.body);
    ready();
  }

  // --- copying an address ---
  async function copy(button, field) {
    field.select();
    try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand("copy"); }
    button.textContent = field.dataset.copied;
  }

  // --- staying up to date ---
  let asking = null, again = false, timer = 0;
  async function refresh() {
    if (document.querySelector("[data-once]")) return; // what is shown only once stays until one goes on
    if (asking) { again = true; return; }
    last = performance.now();
    asking = fetch(location.href, { headers: { "X-Fragment": "1" }, credentials: "same-origin" });
    try {
      const answer = await asking, text = await answer.text(); // an unread body would keep its connection
      took = performance.now() - last;
      if (answer.ok && !answer.redirected) lay(text);
    } catch { /* the stream says when we are back */ }
    asking = null;
    if (again) { again = false; soon(); }
  }
  // Not more often than a page can be looked at, nor than the server can bear; unseen pages wait.
  let last = 0, took = 0, stale = false;
  function soon(delay = 120) {
    if (document.hidden) { stale = true; return; }
    clearTimeout(timer);
    timer = setTimeout(refresh, delay && Math.max(delay, last + Math.max(600, 5 * took) - performance.now()));
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) { stale = false; soon(0); } });

  const offline = (yes) => { const banner = document.getElementById("offline"); if (banner) banner.hidden = !yes; };
  // One stream for all pages of a browser (it opens six connections to a host): who holds the lock has it
  // and passes on what it hears; when that page is closed the next one takes over.
  const stream = document.body.dataset.stream;
  const channel = stream && "BroadcastChannel" in window ? new BroadcastChannel("touchpoint-" + stream) : null;

  function hear(kind, data) {
    if (kind === "change") soon();
    else if (kind === "acted") soon(0);
    else if (kind === "clock") setClock(JSON.parse(data));
    else if (kind === "offline") offline(true);
    else if (kind === "online") { offline(false); soon(); }
  }
  function pass(kind, data) { hear(kind, data); channel?.postMessage({ kind, data }); }
  channel?.addEventListener("message", (event) => hear(event.data.kind, event.data.data));

  function listen() {
    const source = new EventSource("/events" + (stream === "demo" ? "" : "?as=" + stream));
    let lost = 0;
    for (const kind of ["change", "clock"]) source.addEventListener(kind, (event) => pass(kind, event.data));
    source.onopen = () => { clearTimeout(lost); if (lost) pass("online"); lost = 0; };
    source.onerror = () => { if (!lost) lost = setTimeout(() => pass("offline"), 3000); };
  }
  function follow() {
    if (channel && navigator.locks) navigator.locks.request("touchpoint-" + stream, () => { listen(); return new Promise(() => {}); });
    else listen();
  }

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
      channel?.postMessage({ kind: "acted" });
    } catch {
      const unsent = document.getElementById("unsent");
      if (navigator.onLine || !unsent) return form.submit();
      unsent.hidden = false; // nothing was sent, and the page says so
      button?.removeAttribute("aria-busy");
      button?.setAttribute("aria-pressed", "false");
    }
  }
  let lastPath = location.pathname;
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method.toLowerCase() !== "post" || /^\/sign-/.test(form.getAttribute("action") || "")) return;
    if (form.enctype === "multipart/form-data") return; // a photo goes the browser's own way
    event.preventDefault();
    send(form, event.submitter);
  });
  window.addEventListener("popstate", refresh);

  document.addEventListener("click", (event) => {
    const push = event.target.closest("[data-push] .cover");
    if (push) seen(push.closest("[data-push]").dataset.push);
    const target = event.target.closest("[data-close],[data-print],[data-subscribe],[data-copy]");
    if (!target) return;
    if (target.matches("[data-print]")) window.print();
    else if (target.matches("[data-copy]")) copy(target, document.getElementById(target.dataset.copy));
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
      fetch(hold.dataset.hold, { method: "POST", credentials: "same-origin" }).then((answer) => answer.text()).then(refresh, () => {});
    }
    if (/Android/.test(navigator.userAgent))
      for (const way of document.querySelectorAll("[data-geo]")) way.href = way.dataset.geo; // the phone's own maps
    const began = document.querySelector("[data-begun]");
    if (began && !held.has(began.dataset.begun)) {
      held.add(began.dataset.begun); // so that the choice can be gone on with anywhere else
      fetch(began.dataset.begun, { method: "POST", credentials: "same-origin" }).catch(() => {});
    }
    const denied = document.getElementById("notify-denied");
    if (denied && "Notification" in window) denied.hidden = Notification.permission !== "denied";
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
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone they scroll
  ready();
  if (stream) follow();
  // The worker keeps the owner's pages for when there is no connection.
  if (location.pathname.startsWith("/me") && "serviceWorker" in navigator) {
    const fresh = !navigator.serviceWorker.controller;
    navigator.serviceWorker.register("/static/sw.js", { scope: "/" }).then(() => navigator.serviceWorker.ready)
      .then((worker) => { if (fresh) worker.active.postMessage({ keep: location.pathname }); }, () => {});
  }
})();
