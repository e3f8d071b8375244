// Shows what a push says, and lets it be answered where it stands.
"use strict";
self.addEventListener("push", (event) => {
  const said = event.data ? event.data.json() : {};
  event.waitUntil(Promise.all([tell(said, "delivered"), self.registration.showNotification(said.title || "Touchpoint", {
    body: said.body || "", lang: said.language, tag: said.touchpoint || said.id, icon: "/static/icon.svg",
    data: said, actions: (said.actions || []).slice(0, 2).map((a) => ({ action: a.action, title: a.title })),
  })]));
});
self.addEventListener("notificationclick", (event) => {
  const said = event.notification.data || {};
  const page = said.url || (said.touchpoint ? "/me/touchpoints/" + said.touchpoint : "/me");
  event.notification.close();
  event.waitUntil(tell(said, "seen"));
  event.waitUntil(event.action && said.touchpoint ? answer(said, event.action, page) : open(page));
});
async function answer(said, action, page) {
  const [kind, slot] = action.split(/:(.*)/);
  const body = new URLSearchParams({ action: kind, channel: "web_push" });
  if (slot) body.set("slot", slot);
  try {
    const done = await fetch(said.answer_at || "/me/touchpoints/" + said.touchpoint + "/answer", { method: "POST", body, credentials: "same-origin" });
    if (!done.ok) throw new Error(String(done.status));
    return open(new URL(done.url).pathname);
  } catch {
    return open(page);
  }
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
