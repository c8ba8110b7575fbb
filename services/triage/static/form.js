// A form for a function call, made from the JSON Schemas of the functions that were offered.
//
// An editor is {node, field, isEmpty(), read(faults)}: `field` takes the focus, and `read` returns the value and adds
// {field, text} to the faults. One with `parts` is made of others. What a form cannot show is edited as JSON, so that
// nothing is ever dropped.
import { isObject, number, parse, print } from "./json.js";
import { FITS, NUMBER, WHOLE, read as readSchema } from "./schema.js";

let ids = 0;
// What is to be read in each line for a fault.
const lines = new WeakMap();

const make = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children);
  return made;
};

const textEditor = (value = "") => {
  const field = /\n/.test(value) || value.length > 60 ? make("textarea", { rows: 3 }) : make("input", { type: "text" });
  field.value = value;
  return { node: field, field, isEmpty: () => !field.value, read: () => field.value };
};

const numberEditor = (known, value) => {
  const field = make("input", { type: "text", inputmode: "decimal" });
  field.value = value === undefined ? "" : print(value);
  const read = (faults) => {
    const text = field.value.trim();
    if (!(known.kind === "integer" ? WHOLE : NUMBER).test(text)) {
      faults.push({ field, text: known.kind === "integer" ? "wanted a whole number" : "wanted a number" });
      return text;
    }
    return number(text);
  };
  return { node: field, field, isEmpty: () => !field.value.trim(), read };
};

// Options are told apart by their JSON, since a list may hold 1 and "1".
const choiceEditor = (known, value, values) => {
  const field = make("select", {}, make("option", { value: "" }, "choose…"));
  const texts = values.map(print);
  if (value !== undefined && !texts.includes(print(value))) {
    texts.unshift(print(value));
    values = [value, ...values];
  }
  texts.forEach((text, index) => {
    field.append(make("option", { value: text }, typeof values[index] === "string" ? values[index] || "empty text" : text));
  });
  field.value = value === undefined ? "" : print(value);
  const read = (faults) => {
    const chosen = values[texts.indexOf(field.value)];
    const fault = chosen === undefined ? "choose one" : known.fault(chosen);
    if (fault) {
      faults.push({ field, text: fault });
    }
    return chosen;
  };
  return { node: field, field, isEmpty: () => !field.value, read };
};

const jsonEditor = (known, value) => {
  const field = make("textarea", { class: "code", rows: 2, spellcheck: "false" });
  field.value = value === undefined ? "" : print(value);
  const read = (faults) => {
    let given;
    try {
      given = parse(field.value);
    } catch {
      faults.push({ field, text: 'wanted JSON: "text", a number, true, false, null, a [list] or an {object}' });
      return field.value;
    }
    const fault = known.fault(given);
    if (fault) {
      faults.push({ field, text: fault });
    }
    return given;
  };
  return { node: field, field, isEmpty: () => !field.value.trim(), read };
};

const listEditor = (known, value = [], depth, label) => {
  const rows = make("div", { class: "rows" });
  const add = make("button", { type: "button", class: "small" }, "Add one");
  const node = make("div", { class: "nested", role: "group", "aria-label": label }, rows, add);
  let items = [];
  const put = (each) => {
    const item = editor(known.schema.items, each, depth + 1, `${label}, one of the list`);
    if (!item.parts) {
      item.field.setAttribute("aria-label", `${label}, one of the list`);
    }
    const remove = make("button", { type: "button", class: "small" }, "Remove");
    const row = make("div", { class: "row" }, item.node, remove);
    remove.addEventListener("click", () => {
      items = items.filter((other) => other !== item);
      row.remove();
      add.focus();
      node.dispatchEvent(new Event("input", { bubbles: true }));
    });
    rows.append(row);
    items.push(item);
    return item;
  };
  value.forEach(put);
  add.addEventListener("click", () => {
    put(undefined).field.focus();
    node.dispatchEvent(new Event("input", { bubbles: true }));
  });
  const read = (faults) => items.map((item) => item.read(faults));
  return { node, field: add, parts: "list", isEmpty: () => !items.length, read };
};

// The fields of an object. `left` are values that are shown and not given until somebody says so.
const objectEditor = (schema, value = {}, depth, label, left = {}) => {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const required = Array.isArray(schema.required) ? schema.required : [];
  // The arguments of a function are those that it names; objects within them are JSON Schema's, and open.
  const isOpen = depth ? schema.additionalProperties !== false : !isObject(schema.properties) || schema.additionalProperties;
  const shown = { ...left, ...value };
  const rows = [...new Set([...Object.keys(value), ...Object.keys(properties), ...Object.keys(left)])].map((name) =>
    fieldRow({
      name,
      schema: Object.hasOwn(properties, name) ? properties[name] : {},
      value: Object.hasOwn(shown, name) ? shown[name] : undefined,
      isGiven: Object.hasOwn(value, name),
      isRequired: required.includes(name),
      isUnknown: !Object.hasOwn(properties, name) && !isOpen,
      depth,
    }));
  // What must be there comes first, then what is there.
  const weight = (row) => (row.isRequired ? 0 : row.isGiven() ? 1 : 2);
  const order = rows.map((row) => [weight(row), row]).sort(([one], [other]) => one - other).map(([, row]) => row);
  const node = make("div", depth ? { class: "nested", role: "group", "aria-label": label } : {}, ...order.map((row) => row.node));
  return {
    node,
    field: order[0]?.field || node,
    parts: "object",
    isEmpty: () => !rows.some((row) => row.isGiven()),
    // In the order of the model's answer, so that what it had stays where it was.
    read: (faults) => Object.fromEntries(rows.flatMap((row) => row.read(faults))),
  };
};

const fieldRow = ({ name, schema, value, isGiven, isRequired, isUnknown, depth }) => {
  const known = readSchema(schema, depth);
  const edit = editor(schema, value, depth, name);
  const id = `argument-${(ids += 1)}`;
  const given = make("input", { type: "checkbox", "aria-label": `give ${name}` });
  given.checked = isGiven;
  const fault = make("p", { class: "fault", id: `${id}-fault`, hidden: true });
  const says = isUnknown ? "no argument of this function" : known.description;
  const description = make("p", { class: "description", id: `${id}-says` }, says);
  const described = edit.parts ? edit.node : edit.field;
  described.id = id;
  described.setAttribute("aria-describedby", `${says ? `${id}-says ` : ""}${id}-fault`);
  const node = make(
    "div",
    { class: edit.parts ? "field whole" : "field" },
    make(
      "div",
      { class: "field-head" },
      edit.parts ? make("span", { class: "name" }, name) : make("label", { for: id, class: "name" }, name),
      make("span", { class: "type" }, known.says),
      ...(isRequired ? [make("span", { class: "required" }, "required")] : []),
    ),
    edit.node,
    make("label", { class: "check given" }, given, " given"),
    ...(says ? [description] : []),
    fault,
  );
  node.dataset.name = name;
  const mark = () => node.classList.toggle("left-out", !given.checked);
  mark();
  // What is typed is given, and what is emptied is left out; the box says so and may be set otherwise.
  node.addEventListener("input", (event) => {
    if (event.target !== given) {
      given.checked = !edit.isEmpty();
    }
    mark();
  });
  const read = (faults) => {
    const [own, within] = [[], []];
    const found = given.checked ? [[name, edit.read(within)]] : [];
    if (given.checked && isUnknown) {
      own.push({ field: edit.field, text: "is no argument of this function; leave it out" });
    } else if (!given.checked && isRequired) {
      own.push({ field: edit.field, text: "is required" });
    }
    // The fields of an object have lines of their own for what is wrong with them.
    lines.set(fault, own[0] || (edit.parts === "object" ? undefined : within[0]));
    faults.push(...[...own, ...within].map((each) => ({ ...each, name: each.name ? `${name}.${each.name}` : name })));
    return found;
  };
  return { node, field: edit.field, isRequired, isGiven: () => given.checked, read };
};

const editor = (schema, value, depth, label) => {
  const known = readSchema(schema, depth);
  if (known.kind === "choice") {
    return choiceEditor(known, value, known.schema.enum);
  }
  if (known.kind === "json" || (value !== undefined && !FITS[known.kind](value))) {
    return jsonEditor(known, value);
  }
  switch (known.kind) {
    case "string": return textEditor(value);
    case "boolean": return choiceEditor(known, value, [true, false]);
    case "array": return listEditor(known, value, depth, label);
    case "object": return objectEditor(known.schema, value, depth + 1, label);
    default: return numberEditor(known, value);
  }
};

export class CallForm {
  constructor(target, tools) {
    this.target = target;
    this.schemas = new Map(tools.map((tool) => [tool.name, tool.parameters]));
    this.set(null);
  }

  // Shows a call; nothing: an empty one, of the only function where there is one.
  set(call) {
    const only = this.schemas.size === 1 ? [...this.schemas.keys()][0] : "";
    this.show(call ? call.name : only, call ? call.arguments : {}, {});
  }

  show(name, given, left) {
    const options = [...this.schemas.keys()].map((each) => make("option", { value: each }, each));
    if (!this.schemas.has(name)) {
      options.unshift(make("option", { value: name }, name ? `${name} (was not offered)` : "choose…"));
    }
    this.chosen = make("select", { id: "function" }, ...options);
    this.chosen.value = name;
    const schema = this.schemas.get(name) || { additionalProperties: true };
    this.fields = objectEditor(schema, given, 0, "arguments", left);
    this.showsAll = false;
    this.chosen.addEventListener("change", () => this.choose(this.chosen.value, { ...left }));
    this.target.replaceChildren(make("label", { for: "function", class: "name" }, "Function"), this.chosen, this.fields.node);
  }

  // What the new function knows too is given to it; the rest stays in sight, left out.
  choose(name, left) {
    const given = this.fields.read([]);
    const properties = this.schemas.get(name)?.properties;
    const isKnown = ([argument]) => !isObject(properties) || Object.hasOwn(properties, argument);
    const kept = Object.entries({ ...left, ...given });
    this.show(name, Object.fromEntries(kept.filter(isKnown)), Object.fromEntries(kept.filter((each) => !isKnown(each))));
    this.chosen.focus();
    this.target.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // The call as it stands, and what is wrong with it. Faults are shown where somebody has been, or from now on all.
  read({ showAll = false } = {}) {
    this.showsAll ||= showAll;
    const faults = [];
    const call = { name: this.chosen.value, arguments: this.fields.read(faults) };
    if (!this.schemas.has(call.name) && this.schemas.size) {
      faults.unshift({ field: this.chosen, name: "function", text: "wanted one of those offered" });
    }
    const isShown = (field) => this.showsAll || field.dataset.touched;
    for (const field of this.target.querySelectorAll("input, textarea, select, button")) {
      const fault = faults.find((each) => each.field === field);
      field.removeAttribute("aria-invalid");
      if (fault && isShown(field)) {
        field.setAttribute("aria-invalid", "true");
      }
    }
    for (const line of this.target.querySelectorAll(".fault")) {
      const fault = lines.get(line);
      line.hidden = !(fault && isShown(fault.field));
      line.textContent = line.hidden ? "" : fault.text;
    }
    return { call, faults };
  }

  focus() {
    const first = this.target.querySelector(".field:not(.left-out) :is(input:not([type=checkbox]), textarea, select)");
    (first || this.chosen).focus();
  }
}
