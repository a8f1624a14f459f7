// Asks the site's own search worker, as a browser does: node ask_search.js WORKER INDEX TERM...
// Prints for each term, as JSON, where the pages are that it finds, best first.
const fs = require("fs");
const [worker, index, ...terms] = process.argv.slice(2);
const [SETUP, READY, QUERY, RESULT] = [0, 1, 2, 3];
let listener;
globalThis.self = globalThis;
globalThis.addEventListener = (_, added) => { listener = added; };
globalThis.postMessage = ({ type, data }) => {
  if (type === RESULT) console.log(JSON.stringify(data.items.map(([best]) => best.location)));
  if (type >= READY && terms.length) listener({ data: { type: QUERY, data: terms.shift() } });
};
(0, eval)(fs.readFileSync(worker, "utf8"));
const { config, docs } = JSON.parse(fs.readFileSync(index, "utf8"));
listener({ data: { type: SETUP, data: { config, docs, options: {} } } });
