// The page of the queue.
import { onKeys, showKeys } from "./keys.js";

onKeys({
  n: () => document.getElementById("claim").requestSubmit(),
  z: () => document.getElementById("undo")?.requestSubmit(),
  "?": showKeys,
});
