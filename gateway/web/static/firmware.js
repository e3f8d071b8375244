// Uploads a release: every file that the manifest names in pieces, going on where an earlier try ended, then the
// manifest with its signatures. What is refused is said as the server says it.
(() => {
  const form = document.querySelector('[data-firmware]');
  if (!form) return;
  const api = '/api/v1/firmware/';
  const piece = 8 * 1024 * 1024;
  const [bar, said, button] = ['progress', '[data-said]', 'button'].map((s) => form.querySelector(s));
  form.dataset.own = ''; // a live page would put the text for browsers without scripts back
  said.textContent = '';
  button.disabled = false;

  const ask = async (path, method, body, json = true) => {
    const headers = json ? { 'Content-Type': 'application/json' } : { 'Content-Type': 'application/octet-stream' };
    const answer = await fetch(api + path, { method, body: json ? JSON.stringify(body) : body, headers });
    const read = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(read.detail || `${answer.status}`);
    return read;
  };

  const send = async (file, named, before, all) => {
    let at = await ask('uploads', 'POST', { sha256: named.sha256, size: named.size });
    while (at.offset < at.size) {
      const part = file.slice(at.offset, at.offset + piece);
      at = await ask(`uploads/${at.id}/content?offset=${at.offset}`, 'PUT', part, false);
      bar.value = (before + at.offset) / all;
    }
  };

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    bar.hidden = false;
    try {
      const manifest = await form.elements.manifest.files[0].text();
      const signatures = await form.elements.signatures.files[0].text();
      const named = JSON.parse(manifest).modules.flatMap((module) => module.files);
      const all = named.reduce((sum, file) => sum + file.size, 0);
      let before = 0;
      for (const one of named) {
        const file = [...form.elements.files.files].find((f) => f.name === one.name);
        if (file) await send(file, one, before, all);
        before += one.size;
      }
      await ask('releases', 'POST', { manifest, signatures });
      window.location.reload();
    } catch (error) {
      said.textContent = error.message;
      button.disabled = false;
    }
  });
})();
