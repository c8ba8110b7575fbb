// Keyboard shortcuts, the lease's clock, and submission without losing what was typed.
"use strict";

const form = document.getElementById("judge");
const claim = document.getElementById("claim");

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  if (!form && event.key.toLowerCase() === "n" && !typing && !event.ctrlKey && !event.altKey && !event.metaKey) {
    event.preventDefault();
    claim.requestSubmit();
  } else if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(document.getElementById("submit"));
  } else if (form && event.altKey && (event.code === "KeyU" || event.code === "KeyS")) {
    event.preventDefault();
    form.requestSubmit(form.querySelector(`[value="${event.code === "KeyU" ? "unsafe" : "skip"}"]`));
  }
});

if (form) {
  const answer = document.getElementById("answer");
  const submit = document.getElementById("submit");
  const hint = document.getElementById("hint");
  const problem = document.getElementById("problem");
  const said = hint.textContent;

  const compare = () => {
    const changed = answer.value.trim() !== answer.dataset.original.trim();
    submit.value = changed ? "corrected" : "confirmed";
    submit.firstElementChild.textContent = changed ? submit.dataset.correct : submit.dataset.confirm;
    hint.textContent = changed ? "Changed: this will be submitted as a correction." : said;
    hint.classList.toggle("changed", changed);
  };
  answer.addEventListener("input", compare);
  compare();

  const show = (text) => {
    problem.textContent = text;
    problem.hidden = false;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // An implicit submission (Enter in the comment) means what the main button means.
    const action = (event.submitter || submit).value;
    const body = new URLSearchParams(new FormData(form));
    body.set("action", action);
    const buttons = form.querySelectorAll("button");
    problem.hidden = true;
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const response = await fetch("/submit", { method: "POST", body });
      const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
      if (response.ok) {
        claim.requestSubmit();
        return;
      }
      show(isJson ? (await response.json()).problem : "You are signed out. Copy your answer, then sign in again.");
    } catch {
      show("The console cannot be reached. Your answer is still here: try again in a moment.");
    }
    buttons.forEach((button) => { button.disabled = false; });
  });

  const left = document.getElementById("left");
  const expires = Number(document.querySelector("main.item").dataset.expires) * 1000;
  const tick = () => {
    const seconds = Math.max(0, Math.round((expires - Date.now()) / 1000));
    left.textContent = seconds ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "no longer: claim the next";
  };
  tick();
  setInterval(tick, 1000);
}
