// The page of the queue.
import { onKeys, showKeys } from "./keys.js";

onKeys({
  n: () => document.getElementById("claim").requestSubmit(),
  d: () => document.querySelector("#decide button")?.click(),
  z: () => document.getElementById("undo")?.requestSubmit(),
  "?": showKeys,
});
