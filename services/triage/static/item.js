// The page of an item: correcting, comparing, the lease, and what becomes of it.
import { CallForm } from "./form.js";
import { callOf, print } from "./json.js";
import { differs, show } from "./difference.js";
import { Lease } from "./lease.js";
import { isField, onKeys, showKeys } from "./keys.js";

const byId = (id) => document.getElementById(id);
const judge = byId("judge");
const answer = byId("answer");
const submit = byId("submit");
const problem = byId("problem");
const claim = byId("claim");
const original = answer.dataset.original;
const isCall = "call" in answer.dataset;
const mode = byId("mode");
const form = isCall ? new CallForm(byId("form"), JSON.parse(byId("form").dataset.tools)) : null;
// How long nobody types before the difference is said aloud.
const QUIET_MILLISECONDS = 1500;

let isForm = false;
let isLeaving = false;

// The answer

// What the form holds before anybody has been there.
const empty = form ? print(form.read().call) : "";

const text = () => {
  if (isForm) {
    const call = print(form.read().call);
    // An answer that is no call cannot be shown by the form: while that is empty, the answer stands.
    return call === empty && !callOf(original) ? original : call;
  }
  const call = isCall ? callOf(answer.value) : null;
  return call ? print(call) : answer.value;
};

const setMode = (wantsForm) => {
  if (wantsForm) {
    form.set(callOf(answer.value));
  } else {
    answer.value = text();
  }
  isForm = wantsForm;
  byId("form").hidden = !isForm;
  answer.hidden = isForm;
  mode.firstChild.textContent = isForm ? "JSON " : "Form ";
};

const begin = (given) => {
  answer.value = given;
  if (isCall) {
    setMode(true);
  }
  compare();
};

// A template goes into a text where the cursor is.
const start = (button) => {
  const given = button.dataset.text;
  if (!isCall && button.dataset.kind === "template") {
    answer.focus();
    answer.setRangeText(given, answer.selectionStart, answer.selectionEnd, "end");
    compare();
  } else {
    begin(given);
    focusAnswer();
  }
};

const focusAnswer = () => (isForm ? form.focus() : answer.focus());

// The difference

let said = "";
let timer = 0;

const compare = () => {
  const wanted = text();
  const changed = differs(original, wanted, isCall);
  const says = show(byId("difference"), original, wanted, isCall);
  submit.firstElementChild.textContent = changed ? "Submit correction" : "Confirm";
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (says !== said) {
      said = says;
      byId("status").textContent = says || "No difference to the model's answer.";
    }
  }, QUIET_MILLISECONDS);
  return changed;
};

// The server

const tell = (says) => {
  problem.textContent = says;
  problem.hidden = !says;
};

// Returns what the server answered; nothing where it refused, which is then shown.
const post = async (path, fields) => {
  const body = new URLSearchParams({ csrf: judge.csrf.value, lease: judge.lease.value, ...fields });
  try {
    const response = await fetch(path, { method: "POST", body });
    const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
    if (response.ok && isJson) {
      return await response.json();
    }
    tell(isJson ? (await response.json()).problem : "You are signed out. Copy your answer, then sign in again.");
  } catch {
    tell("The console cannot be reached. Your answer is still here: try again in a moment.");
  }
  return undefined;
};

const finish = async (path, fields, then) => {
  const buttons = [...judge.querySelectorAll(".actions button"), byId("extend"), byId("release")];
  tell("");
  buttons.forEach((button) => { button.disabled = true; });
  const done = await post(path, fields);
  if (done) {
    isLeaving = true;
    then();
  } else {
    buttons.forEach((button) => { button.disabled = false; });
  }
};

const send = (action, fields = {}) => finish(
  "/submit",
  {
    action,
    claimed_at: judge.claimed_at.value,
    comment: judge.comment.value,
    rating: judge.querySelector("[name=rating]:checked")?.value || "",
    ...fields,
  },
  () => claim.requestSubmit(),
);

judge.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!compare()) {
    send("confirmed");
    return;
  }
  if (isForm) {
    const { faults } = form.read({ showAll: true });
    if (faults.length) {
      tell(faults.map((fault) => `${fault.name}: ${fault.text}`).join("; "));
      faults[0].field.focus();
      return;
    }
  }
  send("corrected", { answer: text() });
});

// Enter in a field would submit by accident; Ctrl and Enter do so on purpose.
judge.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && event.target.matches("input")) {
    event.preventDefault();
  }
});

// The lease

const lease = new Lease({
  seconds: Number(byId("item").dataset.leaseSeconds),
  secondsLeft: Number(byId("item").dataset.secondsLeft),
  clock: byId("left"),
  warning: byId("warning"),
  extend: async () => {
    const extended = await post("/extend", {});
    if (extended) {
      judge.lease.value = extended.lease;
    }
    return extended?.seconds_left;
  },
});

const extend = async () => {
  await lease.extend();
  byId("status").textContent = `The item is yours for ${byId("left").textContent}.`;
};

// What is typed

const typed = (event) => {
  if (event.target.closest("#form, #answer")) {
    event.target.dataset.touched = event.type === "change" ? "yes" : event.target.dataset.touched || "";
    compare();
  }
  lease.work();
};
judge.addEventListener("input", typed);
judge.addEventListener("change", typed);

window.addEventListener("beforeunload", (event) => {
  if (!isLeaving && compare()) {
    event.preventDefault();
  }
});

// Dialogs

// A dialog may be open again when it hears that it was closed, so what it returned counts once.
const asking = (dialog, then) => {
  dialog.addEventListener("close", () => {
    const chosen = dialog.returnValue;
    dialog.returnValue = "";
    if (chosen) {
      then(chosen);
    }
  });
  return () => dialog.showModal();
};

const unsafe = asking(byId("unsafe-dialog"), () => send("unsafe"));

const skip = asking(byId("skip-dialog"), (reason) => {
  send("skip", { comment: reason === "other" ? byId("reason").value : reason });
});

byId("skip-dialog").addEventListener("keydown", (event) => {
  const isTyping = isField(event.target);
  if (isTyping && event.key === "Enter") {
    event.preventDefault();
    byId("skip-other").click();
  }
  const chosen = isTyping ? null : byId("skip-dialog").querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (chosen) {
    event.preventDefault();
    chosen[isField(chosen) ? "focus" : "click"]();
  }
});

byId("skip-other").addEventListener("click", (event) => {
  if (!byId("reason").value.trim()) {
    event.preventDefault();
    byId("reason").focus();
  }
});

// A lead is told why.
const escalate = () => {
  if (!judge.comment.value.trim()) {
    tell("Write in the comment why a lead should decide, then hand it on.");
    judge.comment.focus();
    return;
  }
  send("escalated");
};

// The item in hand is handed back first, so that it does not wait for its lease to end.
const undo = () => byId("undo") && finish("/release", {}, () => byId("undo").requestSubmit());

// Keys

const rate = () => (judge.querySelector("[name=rating]:checked") || judge.rating[0]).focus();

const digit = (event) => {
  const key = event.key.length === 1 ? event.key : event.code.slice(-1);
  if (event.target.name === "rating" && !event.altKey) {
    const chosen = judge.querySelector(`[name=rating][value="${CSS.escape(key)}"]`);
    if (chosen) {
      chosen.checked = true;
      chosen.focus();
    }
    return;
  }
  judge.querySelector(`button[data-key="${CSS.escape(key)}"]`)?.click();
};

const actions = {
  n: () => (lease.left ? tell("Submit, skip or hand back this item first.") : claim.requestSubmit()),
  e: focusAnswer,
  j: () => mode && mode.click(),
  r: rate,
  c: () => judge.comment.focus(),
  u: unsafe,
  s: skip,
  l: () => byId("escalate") && escalate(),
  z: undo,
  x: extend,
  b: () => byId("release").click(),
  g: () => { if (byId("guideline")) { byId("guideline").open = !byId("guideline").open; } },
  w: () => {
    const parts = [...byId("conversation").querySelectorAll("details")];
    const open = !parts.every((each) => each.open);
    parts.forEach((each) => { each.open = open; });
  },
  "?": showKeys,
};
for (let key = 0; key <= 9; key += 1) {
  actions[key] = digit;
}
onKeys(actions);

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    judge.requestSubmit(submit);
  }
});

byId("original").addEventListener("click", () => begin(original));
judge.querySelectorAll(".start").forEach((button) => button.addEventListener("click", () => start(button)));
byId("extend").addEventListener("click", extend);
byId("unsafe").addEventListener("click", unsafe);
byId("skip").addEventListener("click", skip);
byId("escalate")?.addEventListener("click", escalate);
byId("release").addEventListener("click", () => finish("/release", {}, () => location.assign("/")));
if (mode) {
  mode.addEventListener("click", () => {
    if (!isForm && answer.value.trim() && !callOf(answer.value) && answer.value !== original) {
      tell('The form shows calls alone: {"name": ..., "arguments": {...}}. This is none yet.');
      answer.focus();
      return;
    }
    tell("");
    setMode(!isForm);
    focusAnswer();
    compare();
  });
}

begin(original);
