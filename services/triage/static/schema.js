// What a JSON Schema says of one value, as far as a form can show it.
import { isNumber, isObject, print } from "./json.js";

const SCALARS = ["string", "number", "integer", "boolean"];
// Deeper a form would be a maze, so the rest is JSON.
const DEEPEST = 3;

export const WHOLE = /^-?(?:0|[1-9][0-9]*)(?:\.0+)?$/;
export const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

const isNull = (schema) => isObject(schema) && schema.type === "null";

// A schema that also allows null, without that: how Python's `X | None` comes out.
const plain = (schema) => {
  const known = isObject(schema) ? schema : {};
  for (const keyword of ["anyOf", "oneOf"]) {
    const others = Array.isArray(known[keyword]) ? known[keyword].filter((each) => !isNull(each)) : [];
    if (others.length === 1 && known[keyword].length === 2 && isObject(others[0])) {
      return { ...known, [keyword]: undefined, ...others[0], nullable: true };
    }
  }
  if (Array.isArray(known.type)) {
    const types = known.type.filter((each) => each !== "null");
    return { ...known, type: types.length === 1 ? types[0] : undefined, nullable: known.type.includes("null") };
  }
  return known;
};

const COMPOUND = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "const", "prefixItems"];

// How a value is asked for: choice, string, number, integer, boolean, array, object or json.
const kindOf = (known, depth) => {
  if (COMPOUND.some((keyword) => known[keyword] !== undefined)) {
    return "json";
  }
  if (Array.isArray(known.enum)) {
    return "choice";
  }
  if (SCALARS.includes(known.type)) {
    return known.type;
  }
  const isNested = depth < DEEPEST
    && ((known.type === "array" && isObject(known.items)) || (known.type === "object" && isObject(known.properties)));
  return isNested ? known.type : "json";
};

export const FITS = {
  string: (value) => typeof value === "string",
  number: isNumber,
  integer: (value) => isNumber(value) && WHOLE.test(print(value)),
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: isObject,
};

const WANTED = {
  string: "text",
  number: "a number",
  integer: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
};

export const read = (schema, depth) => {
  const known = plain(schema);
  const type = Object.hasOwn(FITS, known.type) ? known.type : "";
  const options = Array.isArray(known.enum) ? known.enum : null;
  return {
    kind: kindOf(known, depth),
    schema: known,
    // As it is shown beside the name.
    says: [options ? "one of a list" : type || "any JSON", known.nullable ? "or null" : ""].filter(Boolean).join(" "),
    description: typeof known.description === "string" ? known.description : "",
    // What is wrong with a value, in words; nothing where it is as wanted. The server looks at the rest.
    fault: (value) => {
      if (value === null && known.nullable) {
        return "";
      }
      if (options && !options.some((each) => print(each) === print(value))) {
        return `wanted one of ${options.map(print).join(", ")}`;
      }
      return type && !FITS[type](value) ? `wanted ${WANTED[type]}` : "";
    },
  };
};
