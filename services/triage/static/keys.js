// Keys of a page: alone while no field has the focus, with Alt everywhere. And the list of them.

const FIELD = "input:not([type=radio]):not([type=checkbox]), textarea, select";
const list = document.getElementById("keys");
const alone = document.getElementById("single-keys");

// What a key is called: its letter or digit, also where Alt or the layout makes another character of it.
const nameOf = (event) => {
  const key = event.key.toLowerCase();
  if (/^[a-z0-9?]$/.test(key)) {
    return key;
  }
  const [, letter, digit] = /^(?:Key([A-Z])|Digit([0-9]))$/.exec(event.code) || [];
  return letter ? letter.toLowerCase() : event.shiftKey ? "" : digit || "";
};

export const isField = (element) => Boolean(element.closest && element.closest(FIELD));

// Calls what belongs to a key: `actions` maps letters, digits and "?" to functions.
export const onKeys = (actions) => {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) {
      return;
    }
    if (event.key === "Escape" && isField(event.target)) {
      event.target.blur();
      return;
    }
    const isAlone = alone.checked && !event.altKey && !isField(event.target);
    if (event.ctrlKey || event.metaKey || !(isAlone || event.altKey)) {
      return;
    }
    const action = actions[nameOf(event)];
    if (action) {
      event.preventDefault();
      action(event);
    }
  });
};

export const showKeys = () => list.showModal();

// Screen readers and voice input have letters of their own, so keys alone can be switched off.
alone.checked = localStorage.getItem("single-keys") !== "off";
alone.addEventListener("change", () => localStorage.setItem("single-keys", alone.checked ? "on" : "off"));
document.getElementById("show-keys").addEventListener("click", showKeys);
