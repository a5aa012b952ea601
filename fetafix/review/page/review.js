"use strict";
// Shows decisions as the server tells them, and sends the reader's. Text is set as text, never as markup.
(() => {
  const at = new URL(".", location.href);
  const cards = new Map([...document.querySelectorAll("article.entry")].map((c) => [c.dataset.entry, c]));
  const byId = (id) => document.getElementById(id);
  const name = byId("by"), outcome = byId("outcome");
  let revision = "", watching = 0, shownJob = "", busy = false, ended = false;
  let turn = 0, silent = 0;  // what was asked before the last decision tells nothing new; a page may miss an answer

  try { name.value = name.value || localStorage.getItem("fetafix-name") || ""; } catch { /* no storage, no memory */ }

  const person = () => {
    const said = name.value.trim();
    byId("by-wrong").textContent = said ? "" : "Say who you are first: decisions are kept with a name.";
    name.setAttribute("aria-invalid", String(!said));
    if (!said) name.focus();
    else try { localStorage.setItem("fetafix-name", said); } catch { /* then it is asked again */ }
    return said;
  };

  const ask = async (route, body) => {
    const how = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    const answer = await fetch(new URL(route, at), { credentials: "omit", redirect: "error", ...how });
    return { status: answer.status, told: await answer.json() };
  };

  const when = (iso) => {
    const date = new Date(iso);
    return Number.isNaN(date.getTime()) ? iso : date.toLocaleString();
  };

  const words = (entry) => {
    const who = entry.by ? ` by ${entry.by}` : "", at = entry.at ? `, ${when(entry.at)}` : "";
    const why = entry.comment ? `: ${entry.comment}` : "";
    if (entry.approved === null) return entry.by ? `Taken back${who}${at}${why}. To be decided.` : "To be decided.";
    return `${entry.approved ? "Approved" : "Rejected"}${who}${at}${why}`;
  };

  const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const showEntry = (card, entry) => {
    if (revision && card.dataset.state !== entry.state) {
      byId("said").textContent = `${card.querySelector("h3").textContent.trim()}: ${words(entry)}`;
    }
    card.dataset.state = entry.state;
    card.dataset.decision = entry.approved === null ? "open" : entry.word;
    set(card.querySelector(".decision"), words(entry));
    for (const button of card.querySelectorAll("button[data-choice]")) {
      const choice = button.dataset.choice;
      if (choice === "withdraw") button.hidden = entry.approved === null;
      else button.setAttribute("aria-pressed", String(entry.approved === (choice === "approve")));
    }
  };

  const line = (parent, tag, text, kind) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };

  const title = (id) => cards.get(id)?.querySelector("h3").textContent.trim() ?? id;

  const showResult = (job) => {
    outcome.replaceChildren();
    if (job.status === "failed") {
      line(outcome, "h3", "It was not applied", "bad");
      line(outcome, "p", job.error);
      return;
    }
    const r = job.result;
    const good = r.output && r.passed;
    const head = good ? "Done: the repaired model passes" : r.output ? "Written, but the models still disagree"
      : "Nothing was written";
    line(outcome, "h3", head, good ? "good" : "bad");
    if (r.sentence) line(outcome, "p", r.sentence);
    line(outcome, "p", r.sentence ? `In the words of the terminal: ${r.reason}` : r.reason, r.sentence ? "reason" : "");
    if (r.output) line(line(outcome, "p", "Written to "), "code", r.output);
    if (r.left.length) {
      line(outcome, "p", "Approved, but not kept:");
      const list = line(outcome, "ul", "");
      for (const item of r.left) line(list, "li", `${title(item.id)}: ${item.why}`);
      line(outcome, "p", "An edit can be right and yet not help while another fault is left in: then it helps together " +
        "with the edit for that one.");
    }
    showNotes(r.notes);
  };

  const showNotes = (notes) => {
    if (!notes.length) return;
    line(outcome, "p", "What else to know:");
    const list = line(outcome, "ul", "");
    for (const note of notes) line(list, "li", note);
  };

  const showJob = (job, ready) => {
    const running = job.status === "running";
    byId("running").hidden = !running;
    set(byId("stage"), `Working: ${job.stage}`);
    const bar = byId("progress");
    if (running && job.total) { bar.max = job.total; bar.value = job.done; } else bar.removeAttribute("value");
    set(byId("ready"), running ? "" : ready);
    byId("apply").disabled = running || Boolean(ready) || ended;
    const now = JSON.stringify([job.status, job.by, job.result, job.error]);
    if (now !== shownJob && (job.status === "done" || job.status === "failed")) {
      showResult(job);
      if (shownJob && busy) outcome.focus();
      busy = false;
    }
    shownJob = now;
    return running;
  };

  const show = (told) => {
    const all = Object.entries(told.entries);
    for (const [id, entry] of all) if (cards.has(id)) showEntry(cards.get(id), entry);
    const count = (v) => all.filter(([, e]) => e.approved === v).length;
    set(byId("count"), `${all.length - count(null)} of ${all.length} decided: ${count(true)} approved, ` +
      `${count(false)} rejected.`);
    revision = told.revision;
    byId("apply").textContent = count(true) === 1 ? "Apply the approved edit" : `Apply ${count(true)} approved edits`;
    watch(showJob(told.job, told.ready) ? 500 : 3000);
  };

  const lost = () => {
    ended = true;
    for (const button of document.querySelectorAll("button")) button.disabled = true;
    byId("ended").textContent = "The review has ended; decisions are kept. Run fetafix review again to go on.";
  };

  const watch = (pause) => {
    clearTimeout(watching);
    if (!ended) watching = setTimeout(look, pause);
  };

  const look = async () => {
    if (document.hidden) return watch(3000);
    const mine = turn;
    try {
      const { status, told } = await ask("state");
      silent = 0;
      if (status === 200 && mine === turn) return show(told);
      if (status !== 200) set(byId("ready"), told.error);
    } catch { if (++silent > 2) return lost(); }
    watch(1000);
  };

  const decide = async (card, choice) => {
    const by = person(), wrong = card.querySelector("[role=alert]"), comment = card.querySelector("textarea");
    wrong.textContent = "";
    if (!by) return;
    const approved = { approve: true, reject: false, withdraw: null }[choice];
    const id = card.dataset.entry;
    const decision = { entry: id, approved, by, comment: comment.value, state: card.dataset.state };
    try {
      turn += 1;
      const { status, told } = await ask("decide", { decisions: [decision] });
      turn += 1;
      if (told.entries) show(told);
      if (status === 200) comment.value = "";
      else if (status === 409) {
        wrong.textContent = `Not kept, since somebody was faster: ${words(told.entries[id])}. ` +
          "Decide again if you see it otherwise.";
      } else wrong.textContent = `Not kept: ${told.error}`;
    } catch { wrong.textContent = "Not kept: the review has ended."; lost(); }
  };

  for (const card of cards.values()) {
    for (const button of card.querySelectorAll("button[data-choice]")) {
      button.addEventListener("click", () => decide(card, button.dataset.choice));
    }
    card.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  }

  byId("apply").addEventListener("click", async () => {
    const by = person();
    if (!by) return;
    outcome.replaceChildren();
    shownJob = "";
    busy = true;
    byId("apply").disabled = true;
    try {
      const { told } = await ask("apply", { by, revision });
      if (told.entries) show(told);
      if (told.error) line(outcome, "p", told.error, "bad");
    } catch { lost(); }
  });

  byId("stop").addEventListener("click", async () => {
    try {
      const { status, told } = await ask("stop", {});
      if (status === 200) lost();
      else byId("ended").textContent = told.error;
    } catch { lost(); }
  });

  document.addEventListener("visibilitychange", () => { if (!document.hidden && !ended) look(); });
  look();
})();
