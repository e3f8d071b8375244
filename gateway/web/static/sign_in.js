// Passkeys: asks our page what to sign, has the browser ask for finger, face or PIN, and sends what came of it.
// Without it the page's other ways work.
(() => {
  const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  async function ask(path, body) {
    const answer = await fetch(path, { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  function told(credential) {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
      if (credential.response[name]) response[name] = encode(credential.response[name]);
    return { id: credential.id, rawId: encode(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
  }

  async function get(box) {
    const options = await ask("/sign-in/passkey/options", {});
    options.challenge = decode(options.challenge);
    const credential = await navigator.credentials.get({ publicKey: options });
    return ask("/sign-in/passkey", { credential: told(credential), next: box.dataset.next });
  }

  async function create(box) {
    const as = "?as=" + box.dataset.as;
    const options = await ask("/account/passkeys/options" + as, {});
    options.challenge = decode(options.challenge);
    options.user.id = decode(options.user.id);
    for (const one of options.excludeCredentials || []) one.id = decode(one.id);
    const credential = await navigator.credentials.create({ publicKey: options });
    return ask("/account/passkeys" + as, { credential: told(credential), label: box.querySelector("input").value });
  }

  async function act(box, button) {
    const fault = box.querySelector("[data-fault]");
    fault.hidden = true;
    button.setAttribute("aria-busy", "true");
    try {
      const { to } = await (box.dataset.passkey === "get" ? get(box) : create(box));
      location.assign(to);
    } catch {
      fault.hidden = false;
    }
    button.removeAttribute("aria-busy");
  }

  if (!window.PublicKeyCredential || !navigator.credentials) return;
  document.documentElement.classList.add("passkeys"); // shows what needs them, on this page and what is laid over it
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-passkey] button");
    if (button) act(button.closest("[data-passkey]"), button);
  });
})();
