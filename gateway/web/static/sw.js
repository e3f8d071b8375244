// Shows what a push says, and lets it be answered where it stands.
"use strict";
const OFFLINE = {
  en: "You are offline: your answer has not been sent. Choose again when you are back.",
  de: "Sie sind offline: Ihre Antwort wurde nicht gesendet. Wählen Sie noch einmal, wenn Sie wieder verbunden sind.",
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
  return open(done.ok ? there.pathname + there.search : page);
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
