// The official parser of AsyncAPI over the documents on the command line: prints what it finds
// wrong with each, a list of JSON a line.

const { readFileSync } = require("node:fs");
const { Parser, DiagnosticSeverity } = require("@asyncapi/parser");

async function main() {
  for (const file of process.argv.slice(2)) {
    const { diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
    const errors = diagnostics.filter((each) => each.severity === DiagnosticSeverity.Error);
    const told = errors.map((each) => `${each.path.join(".")}: ${each.message}`);
    console.log(JSON.stringify(told));
  }
}

main();
