// The API's page: a search over its operations and objects, and a link that opens what it leads to.
// Without this script everything is there, and the browser's own search finds it.
const form = document.querySelector('.find');
const box = document.getElementById('find');
const said = form.querySelector('output');
const parts = [...document.querySelectorAll('details.operation')].map((part) => ({
  part,
  text: part.textContent.toLowerCase(),
}));

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { part, text } of parts) {
    const fits = words.every((word) => text.includes(word));
    part.hidden = !fits;
    found += fits;
  }
  for (const section of document.querySelectorAll('section.subject')) {
    section.hidden = !section.querySelector('details.operation:not([hidden])');
  }
  said.textContent = words.length ? `${found} found` : '';
}

function follow() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.matches('details')) {
    if (target.hidden) {
      box.value = '';
      search();
    }
    target.open = true;
    target.scrollIntoView();
  }
}

form.hidden = false;
form.addEventListener('submit', (event) => event.preventDefault());
box.addEventListener('input', search);
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && event.target === document.body) {
    event.preventDefault();
    box.focus();
  }
});
addEventListener('hashchange', follow);
follow();
