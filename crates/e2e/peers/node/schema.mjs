// Holds documents against a JSON Schema with ajv: `node schema.mjs FILE`, whose JSON has the schema and the documents by name.
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { endAfter, say } from './peer.mjs';

endAfter(60_000);
const { schema, documents } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
// Strict: a keyword that is unknown, or means nothing where it stands, is a mistake of the schema.
const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, allErrors: true });
const validate = ajv.compile(schema);
for (const { name, document } of documents) {
  const valid = validate(document);
  const errors = (valid ? [] : validate.errors).map(({ instancePath, params, message }) => ({
    at: instancePath,
    key: params.additionalProperty ?? params.missingProperty,
    message,
  }));
  say({ case: name, valid, errors });
}
