// Shows what a push says, and lets it be answered where it stands; keeps the owner's pages as they were last seen.
"use strict";
const OFFLINE = {
  en: "You are offline: your answer has not been sent. Choose again when you are back.",
  de: "Sie sind offline: Ihre Antwort wurde nicht gesendet. Wählen Sie noch einmal, wenn Sie wieder verbunden sind.",
};
const SAID = { // what came of an answer, by the word that its page carries
  en: { booked: "Booked.", requested: "Requested. The workshop will answer.", taken: "This time has just been taken. Tap for the next ones.",
    conflict: "It has been answered already. Tap to see what holds.", call: "Somebody will call you.", noted: "Noted." },
  de: { booked: "Gebucht.", requested: "Angefragt. Die Werkstatt antwortet.", taken: "Diese Zeit ist gerade vergeben worden. Tippen Sie für die nächsten.",
    conflict: "Darauf wurde schon geantwortet. Tippen Sie, um zu sehen, was gilt.", call: "Sie werden angerufen.", noted: "Notiert." },
};
const PAGES = { other_time: "/times", other_workshop: "/workshops" }; // what is chosen on a page

self.addEventListener("push", (event) => {
  const said = event.data ? event.data.json() : {};
  event.waitUntil(Promise.all([tell(said, "delivered"), show(said)]));
});
// As many buttons as this platform shows, the most important first; all the others stand on the page.
function show(said, body = said.body || "") {
  return self.registration.showNotification(said.title || "Touchpoint", {
    body, lang: said.language, tag: said.touchpoint || said.id, icon: "/static/icon.svg", data: said,
    silent: said.about === "answered" || Boolean(said.silent),
    actions: (said.actions || []).slice(0, self.Notification?.maxActions ?? 2).map((a) => ({ action: a.action, title: a.title })),
  });
}
self.addEventListener("notificationclick", (event) => {
  const said = event.notification.data || {};
  const page = said.url || (said.touchpoint ? "/me/touchpoints/" + said.touchpoint : "/me");
  event.notification.close();
  event.waitUntil(tell(said, "seen"));
  if (!event.action || !said.touchpoint) event.waitUntil(open(page));
  else if (PAGES[event.action]) event.waitUntil(open("/me/touchpoints/" + said.touchpoint + PAGES[event.action]));
  else event.waitUntil(answer(said, event.action, page));
});
async function answer(said, action, page) {
  const [kind, slot] = action.split(/:(.*)/);
  const body = new URLSearchParams({ action: kind === "book" ? kind : action, channel: "web_push" });
  if (kind === "book" && slot) body.set("slot", slot);
  const to = said.answer_at || "/me/touchpoints/" + said.touchpoint + "/answer";
  let done;
  try {
    done = await fetch(to, { method: "POST", body, credentials: "same-origin" });
  } catch {
    return show(said, OFFLINE[said.language] || OFFLINE[(self.navigator.language || "en").slice(0, 2)] || OFFLINE.en);
  }
  const there = new URL(done.url);
  // The session has ended: sign in, and the page with the same choices follows.
  if (there.pathname.startsWith("/sign-in")) return open("/sign-in?next=" + encodeURIComponent(new URL(page, self.location.origin).pathname));
  if (!done.ok) return open(page);
  // It is answered, and nobody needs a page: the notification says what came of it, and leads there.
  const words = SAID[said.language] || SAID[(self.navigator.language || "en").slice(0, 2)] || SAID.en;
  const came = words[there.searchParams.get("said")] || words.noted;
  return show({ ...said, about: "answered", actions: [], url: there.pathname + there.search }, came);
}
async function open(path) {
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const ours = windows.find((w) => new URL(w.url).pathname.startsWith("/me"));
  if (!ours) return self.clients.openWindow(path);
  await ours.focus();
  return ours.navigate(path).catch(() => self.clients.openWindow(path));
}
// How far it came, for its owner to see; where nobody is signed in, nobody is told.
async function tell(said, outcome) {
  if (!said.id) return;
  await fetch("/me/deliveries/" + said.id + "/" + outcome, { method: "POST", credentials: "same-origin" }).catch(() => {});
}

// --- without a connection: the pages as they were last seen, each with its time ---
const KEPT = "touchpoint-pages", PARTS = "touchpoint-parts";
const OWN = /^\/me(\/(products|visits|touchpoints|updates|ledger|you|calendar)(\/[^/.]+)?)?$/;
const CHANGES = /^\/(sign-|enter|join\/|claim|me\/delete|account)/; // somebody else may be signed in afterwards
const MOST = 40; // of each; what was kept first goes first

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("message", (event) => { // the page that brought us here was read before we could keep it
  if (event.data?.keep && OWN.test(event.data.keep)) event.waitUntil(fetch(event.data.keep).then((answer) => keep(event.data.keep, answer)));
});
self.addEventListener("fetch", (event) => {
  const { request } = event, url = new URL(request.url);
  if (url.origin !== self.location.origin) return;
  if (request.method === "POST" && CHANGES.test(url.pathname)) event.waitUntil(caches.delete(KEPT));
  if (request.method !== "GET") return;
  if (url.pathname.startsWith("/static/")) event.respondWith(part(request));
  else if (OWN.test(url.pathname) && !url.searchParams.has("lang")) event.respondWith(page(event, request, url.pathname));
});
async function page(event, request, path) {
  try {
    const answer = await fetch(request);
    if (answer.type === "opaqueredirect") event.waitUntil(caches.delete(KEPT)); // nobody is signed in any more
    else event.waitUntil(keep(path, answer.clone()));
    return answer;
  } catch (error) {
    const kept = request.mode === "navigate" && ((await caches.match(path, { cacheName: KEPT })) || (await caches.match("/me", { cacheName: KEPT })));
    if (!kept) throw error;
    const text = (await kept.text()).replace('id="as-of" hidden', 'id="as-of"'); // says from when it is
    return new Response(text, { headers: { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": kept.headers.get("Content-Security-Policy") } });
  }
}
async function keep(path, answer) {
  if (!answer.ok || answer.redirected || !(answer.headers.get("Content-Type") || "").startsWith("text/html")) return;
  const pages = await caches.open(KEPT), text = await answer.clone().text();
  await pages.put(path, answer);
  await few(pages);
  const parts = await caches.open(PARTS);
  for (const [, src] of text.matchAll(/(?:href|src)="(\/static\/[^"]+)"/g)) if (!(await parts.match(src))) await parts.add(src);
  await few(parts);
}
async function few(cache) {
  const all = await cache.keys();
  await Promise.all(all.slice(0, Math.max(0, all.length - MOST)).map((old) => cache.delete(old)));
}
// What carries a version never changes; of the rest the newest, or the one that was kept.
async function part(request) {
  const kept = await caches.match(request, { cacheName: PARTS });
  if (kept && new URL(request.url).search) return kept;
  return fetch(request).catch((error) => { if (kept) return kept; throw error; });
}
