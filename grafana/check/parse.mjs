// Reads a JSON array of {language, query} and writes, for each, the first place that does not parse, or null.
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';
import { readFileSync } from 'node:fs';

const parsers = { logql, traceql };

const results = JSON.parse(readFileSync(0, 'utf8')).map(({ language, query }) => {
  let wrong = null;
  parsers[language].parse(query).iterate({
    enter(node) {
      if (node.type.isError && wrong === null) wrong = { at: node.from, near: query.slice(Math.max(0, node.from - 12), node.from + 12) };
    },
  });
  return wrong;
});
process.stdout.write(JSON.stringify(results));
