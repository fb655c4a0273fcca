// A client that is made from a description: `node petstore-client.mjs DOCUMENT URL` makes calls one after another and writes one line
// for each.
import { readFileSync } from 'node:fs';
import openapi from 'openapi-client-axios';
import { endAfter, say } from './peer.mjs';

endAfter(60_000);
const [file, url] = process.argv.slice(2);
const definition = JSON.parse(readFileSync(file, 'utf8'));
const config = { validateStatus: () => true, paramsSerializer: { indexes: null } };
const client = await new openapi.OpenAPIClientAxios({ definition, withServer: { url }, axiosConfigDefaults: config }).init();

async function call(name, operation, parameters, body, own) {
  const { status, data } = await client[operation](parameters, body, own);
  const outcome = data?.violations ? { violations: data.violations } : { data };
  say({ case: name, status, ...outcome });
}

const form = { headers: { 'content-type': 'application/x-www-form-urlencoded' } };
await call('get', 'getPetById', { petId: 7 });
await call('find', 'findPetsByStatus', { status: ['sold', 'pending'] });
await call('add', 'addPet', null, { name: 'Rex', photoUrls: [], tags: [{ name: 'big' }], status: 'available' });
await call('order', 'placeOrder', null, { petId: 7, quantity: 2, shipDate: '2026-01-01T00:00:00Z', status: 'placed' });
await call('form', 'updatePetWithForm', { petId: 7 }, 'name=Max&status=sold', form);
const image = new FormData();
image.set('additionalMetadata', 'front');
image.set('file', new Blob(['not much of an image']), 'rex.png');
await call('upload', 'uploadFile', { petId: 7 }, image);
await call('inventory', 'getInventory');

await call('bad id', 'getPetById', { petId: 'rex' });
await call('bad status', 'findPetsByStatus', { status: ['sold', 'lost'] });
await call('bad pet', 'addPet', null, { photoUrls: 'none', status: 'lost', tags: [{ name: 5 }] });
await call('bad order', 'placeOrder', null, { petId: 'x', shipDate: 'tomorrow' });
