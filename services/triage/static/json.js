// JSON that keeps numbers as they were written, and is written as the models write it.

// A number that JavaScript would write otherwise (1.0, or one of twenty digits) is kept as its text.
const keep = (key, value, context) =>
  typeof value === "number" && JSON.rawJSON && context && String(value) !== context.source
    ? JSON.rawJSON(context.source)
    : value;

const isRaw = (value) => Boolean(JSON.isRawJSON && JSON.isRawJSON(value));

export const isNumber = (value) => typeof value === "number" || isRaw(value);
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !isRaw(value);

export const parse = (text) => JSON.parse(text, keep);

export const number = (text) => keep("", Number(text), { source: text });

// One line, with a space after each comma and colon.
export const print = (value) => {
  if (Array.isArray(value)) {
    return `[${value.map(print).join(", ")}]`;
  }
  if (isObject(value)) {
    return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${print(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
};

// Whether two values are the same, in whichever order their names are.
export const same = (one, other) => {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((each, index) => same(each, other[index]));
  }
  if (isObject(one) && isObject(other)) {
    const names = Object.keys(one);
    return names.length === Object.keys(other).length
      && names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]));
  }
  return print(one) === print(other);
};

// The call that a text is; nothing where it is none.
export const callOf = (text) => {
  try {
    const call = parse(text);
    const isCall = isObject(call) && typeof call.name === "string" && isObject(call.arguments);
    return isCall && Object.keys(call).length === 2 ? call : null;
  } catch {
    return null;
  }
};
