"use strict";
// One page, no library: text reaches the document through textContent only.

const at = (id) => document.getElementById(id);
const history = []; // {item_id, title}, oldest first
const SHOWN = 20; // of a history: its end
let latest = 0; // number of the newest request for recommendations: an older answer is dropped
let reading = null; // AbortController of the reasoning under way
let limits = { history: 200, n: 10 };

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = !message;
}

async function get(path) {
  const response = await fetch(path);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
  return body;
}

function question() {
  const category = at("category").value;
  return {
    history: history.slice(-limits.history).map((item) => item.item_id),
    n: limits.n,
    exclude: at("unseen").checked ? history.map((item) => item.item_id) : [],
    exclude_history: at("unseen").checked,
    categories: category ? [category] : null,
  };
}

async function recommend() {
  const number = ++latest;
  const start = performance.now();
  try {
    const response = await fetch("recommend", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(question()),
    });
    const body = await response.json();
    if (number !== latest) return;
    if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
    fail("");
    at("took").textContent = `in ${Math.round(performance.now() - start)} ms`;
    at("direct").replaceChildren(...body.items.map((item) => row(item, "+", `Add ${item.title}`, () => add(item))));
  } catch (error) {
    if (number === latest) fail(error.message);
  }
}

function row(item, sign, label, act) {
  const line = element("li");
  const title = element("span", item.title, "title");
  if (item.categories && item.categories.length) title.append(element("span", item.categories.join(", "), "categories"));
  line.append(title);
  if (item.score !== undefined) line.append(element("span", item.score.toFixed(3), "score"));
  const button = element("button", sign, sign === "+" ? "add" : "remove");
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  line.append(button);
  return line;
}

function show() {
  const earlier = Math.max(0, history.length - SHOWN);
  at("history").replaceChildren(
    ...history.slice(earlier).map((item, place) =>
      row({ title: item.title }, "×", `Remove ${item.title}`, () => {
        history.splice(earlier + place, 1);
        show();
      })
    )
  );
  at("earlier").textContent = `and ${earlier.toLocaleString("en")} earlier`;
  at("earlier").hidden = earlier === 0;
  at("history-empty").hidden = history.length > 0;
  at("clear").hidden = history.length === 0;
  recommend();
}

function add(item) {
  history.push({ item_id: item.item_id, title: item.title });
  show();
}

// Search by title, with the keyboard too.
let found = [];
let chosen = -1;
let searching = 0;

function close() {
  found = [];
  chosen = -1;
  at("found").hidden = true;
  at("query").setAttribute("aria-expanded", "false");
}

function take(place) {
  add(found[place]);
  at("query").value = "";
  close();
}

function mark() {
  [...at("found").children].forEach((line, place) => line.setAttribute("aria-selected", String(place === chosen)));
}

async function search() {
  const number = ++searching;
  const query = at("query").value.trim();
  if (!query) return close();
  try {
    const body = await get(`items?query=${encodeURIComponent(query)}&limit=8`);
    if (number !== searching) return;
    found = body.items;
    chosen = found.length ? 0 : -1;
    at("found").replaceChildren(
      ...(found.length
        ? found.map((item, place) => {
            const line = element("li", item.title);
            line.setAttribute("role", "option");
            line.addEventListener("mousedown", (event) => {
              event.preventDefault();
              take(place);
            });
            return line;
          })
        : [element("li", "no such title", "empty")])
    );
    at("found").hidden = false;
    at("query").setAttribute("aria-expanded", "true");
    mark();
  } catch (error) {
    fail(error.message);
  }
}

at("query").addEventListener("input", search);
at("query").addEventListener("blur", close);
at("query").addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  if (!found.length) return;
  if (event.key === "ArrowDown") chosen = (chosen + 1) % found.length;
  else if (event.key === "ArrowUp") chosen = (chosen + found.length - 1) % found.length;
  else if (event.key === "Enter") return take(chosen);
  else return;
  event.preventDefault();
  mark();
});
at("clear").addEventListener("click", () => {
  if (reading) reading.abort();
  history.length = 0;
  for (const id of ["user", "query", "category"]) at(id).value = "";
  at("reasoning").replaceChildren();
  at("after").replaceChildren();
  at("answer").hidden = true;
  at("reason-empty").hidden = false;
  fail("");
  close();
  show();
});
at("unseen").addEventListener("change", recommend);
at("category").addEventListener("change", recommend);

// A user's history, where the server knows users.
at("user").addEventListener("input", async () => {
  try {
    const body = await get(`users?query=${encodeURIComponent(at("user").value)}&limit=20`);
    at("users").replaceChildren(
      ...body.users.map((user) => {
        const choice = element("option");
        choice.value = user;
        return choice;
      })
    );
  } catch (error) {
    fail(error.message);
  }
});
async function takeUser() {
  if (!at("user").value) return;
  try {
    const body = await get(`users/${encodeURIComponent(at("user").value)}`);
    history.splice(0, history.length, ...body.history);
    fail("");
    show();
  } catch (error) {
    fail(error.message);
  }
}
at("user").addEventListener("change", takeUser);

// Reasoning, as server-sent events read off a POST.
function receive(event) {
  const into = at("reasoning");
  if (event.type === "text") into.append(event.text.replaceAll(/<\/?(think|answer)>\n?/g, ""));
  else if (event.type === "item") into.append(element("span", event.title, "item"));
  else if (event.type === "answer") {
    const answer = at("answer");
    answer.hidden = false;
    answer.classList.toggle("bad", !event.item);
    answer.replaceChildren(
      ...(event.item
        ? ["Recommended: ", element("b", event.item.title)]
        : [`No recommendation: ${event.status}. Try again, another reasoning is drawn each time.`])
    );
    at("after").replaceChildren(
      ...(event.items || []).map((item) => row(item, "+", `Add ${item.title}`, () => add(item)))
    );
  } else if (event.type === "error") fail(event.error);
}

async function explain() {
  reading = new AbortController();
  at("reasoning").replaceChildren();
  at("after").replaceChildren();
  at("reasoning").classList.add("running");
  at("reason-empty").hidden = true;
  at("answer").hidden = true;
  at("explain").disabled = true;
  at("stop").hidden = false;
  fail("");
  try {
    const response = await fetch("reason", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...question(), reasonings: 1 }),
      signal: reading.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error || `HTTP ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      waiting += value;
      const events = waiting.split("\n\n");
      waiting = events.pop();
      for (const event of events) receive(JSON.parse(event.replace(/^data: /, "")));
    }
  } catch (error) {
    if (error.name !== "AbortError") fail(error.message);
  } finally {
    at("reasoning").classList.remove("running");
    at("explain").disabled = false;
    at("stop").hidden = true;
  }
}

at("explain").addEventListener("click", explain);
at("stop").addEventListener("click", () => reading && reading.abort());

async function begin() {
  try {
    const about = await get("about");
    limits = { history: about.max_history, n: Math.min(10, about.max_n) };
    at("about").textContent = `${about.items.toLocaleString("en")} items. ${at("about").textContent}`;
    at("user-field").hidden = !about.users;
    at("unseen").checked = !about.repeats;
    at("category").append(
      ...about.categories.map((name) => {
        const choice = element("option", name);
        choice.value = name;
        return choice;
      })
    );
  } catch (error) {
    fail(error.message);
  }
  show();
}

begin();
