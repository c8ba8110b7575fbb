// What differs between the model's answer and the expert's: by words in a text, by arguments in a call.
import { callOf, print, same } from "./json.js";

// Beyond this product of lengths the comparison would hold up typing; what differs is then one piece.
const MOST_CELLS = 400_000;
// Of what is the same between two differences so many words are shown at each side.
const AROUND = 12;

const tokens = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];

// The pieces of two texts, in order: {kind: "same" | "removed" | "added", text}.
export const words = (said, wanted) => {
  const [one, other] = [tokens(said), tokens(wanted)];
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) {
    start += 1;
  }
  let end = 0;
  while (end < one.length - start && end < other.length - start && one.at(-1 - end) === other.at(-1 - end)) {
    end += 1;
  }
  const pieces = [];
  const put = (kind, part) => {
    if (part.length && pieces.at(-1)?.kind === kind) {
      pieces.at(-1).parts.push(...part);
    } else if (part.length) {
      pieces.push({ kind, parts: [...part] });
    }
  };
  put("same", one.slice(0, start));
  for (const [kind, part] of between(one.slice(start, one.length - end), other.slice(start, other.length - end))) {
    put(kind, part);
  }
  put("same", one.slice(one.length - end));
  return pieces;
};

// What a token counts for when it is the same in both: a word more than the spaces around it.
const weight = (token) => (/[\p{L}\p{N}]/u.test(token) ? 8 : /\S/.test(token) ? 3 : 1);

// The heaviest common subsequence (Wagner and Fischer, 1974, with weights).
const between = (one, other) => {
  if (one.length * other.length > MOST_CELLS) {
    return [["removed", one], ["added", other]];
  }
  const width = other.length + 1;
  const weights = one.map(weight);
  const weighed = new Uint32Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i -= 1) {
    for (let j = other.length - 1; j >= 0; j -= 1) {
      weighed[i * width + j] = one[i] === other[j]
        ? weighed[(i + 1) * width + j + 1] + weights[i]
        : Math.max(weighed[(i + 1) * width + j], weighed[i * width + j + 1]);
    }
  }
  const steps = [];
  let [i, j] = [0, 0];
  while (i < one.length && j < other.length) {
    if (one[i] === other[j]) {
      steps.push(["same", [one[i]]]);
      i += 1;
      j += 1;
    } else if (weighed[(i + 1) * width + j] >= weighed[i * width + j + 1]) {
      steps.push(["removed", [one[i]]]);
      i += 1;
    } else {
      steps.push(["added", [other[j]]]);
      j += 1;
    }
  }
  return [...steps, ["removed", one.slice(i)], ["added", other.slice(j)]];
};

// What differs between two calls: {name, kind: "changed" | "removed" | "added", said, wanted}.
export const argumentsOf = (said, wanted) => {
  const changes = [];
  if (said?.name !== wanted.name) {
    changes.push({ name: "function", kind: said ? "changed" : "added", said: said?.name, wanted: wanted.name });
  }
  const before = said?.arguments || {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(wanted.arguments)])) {
    const [was, is] = [Object.hasOwn(before, name), Object.hasOwn(wanted.arguments, name)];
    if (!(was && is && same(before[name], wanted.arguments[name]))) {
      changes.push({
        name,
        kind: was && is ? "changed" : was ? "removed" : "added",
        said: was ? print(before[name]) : undefined,
        wanted: is ? print(wanted.arguments[name]) : undefined,
      });
    }
  }
  return changes;
};

const element = (name, text, className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
};

const shortened = (parts, isFirst, isLast) => {
  if (parts.length <= 2 * AROUND + 4) {
    return parts.join("");
  }
  const head = isFirst ? [] : parts.slice(0, AROUND);
  const tail = isLast ? [] : parts.slice(-AROUND);
  return `${head.join("")} … ${tail.join("")}`.trimStart();
};

const showWords = (target, said, wanted) => {
  const pieces = words(said, wanted);
  const line = element("p", "", "text");
  pieces.forEach(({ kind, parts }, index) => {
    if (kind === "same") {
      line.append(shortened(parts, index === 0, index === pieces.length - 1));
    } else {
      line.append(element(kind === "added" ? "ins" : "del", parts.join("")));
    }
  });
  target.replaceChildren(line);
  const count = (kind) => pieces.filter((each) => each.kind === kind).flatMap((each) => each.parts)
    .filter((part) => /[\p{L}\p{N}]/u.test(part)).length;
  return `${count("added")} words added, ${count("removed")} removed.`;
};

const showCall = (target, said, wanted) => {
  const changes = argumentsOf(said, wanted);
  if (!changes.length) {
    return "";
  }
  const rows = element("dl", "", "arguments");
  for (const change of changes) {
    const row = element("dd", "", "code");
    if (change.said !== undefined) {
      row.append(element("del", change.said));
    }
    if (change.said !== undefined && change.wanted !== undefined) {
      row.append(" → ");
    }
    if (change.wanted !== undefined) {
      row.append(element("ins", change.wanted));
    }
    rows.append(element("dt", change.name), row);
  }
  target.replaceChildren(rows);
  return ["changed", "added", "removed"]
    .map((kind) => [kind, changes.filter((each) => each.kind === kind).map((each) => each.name)])
    .filter(([, names]) => names.length)
    .map(([kind, names]) => `${kind[0].toUpperCase()}${kind.slice(1)}: ${names.join(", ")}.`)
    .join(" ");
};

// Whether an answer is another one than the model's.
export const differs = (said, wanted, isCall) => {
  const [one, other] = isCall ? [callOf(said), callOf(wanted)] : [null, null];
  return one && other ? !same(one, other) : said.trim() !== wanted.trim();
};

// Shows the difference in an element, and returns it as a sentence; nothing where there is none.
export const show = (target, said, wanted, isCall) => {
  if (!differs(said, wanted, isCall)) {
    target.replaceChildren(element("p", "None: this confirms the model's answer.", "quiet"));
    return "";
  }
  const other = isCall ? callOf(wanted) : null;
  return other ? showCall(target, callOf(said), other) : showWords(target, said, wanted);
};
