// A gRPC client: `node grpc-client.mjs ADDRESS CASE…` makes the named calls one after another on one channel and writes one
// line for each.
import { digest, endAfter, pattern, say } from './peer.mjs';
import { Parcels, Strangers, grpc } from './parcels.mjs';

const [address, ...cases] = process.argv.slice(2);
const options = {
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.max_receive_message_length': 16 << 20,
};
const client = new Parcels(address, grpc.credentials.createInsecure(), options);
const strangers = new Strangers(address, grpc.credentials.createInsecure(), options);
endAfter(60_000);

const plain = (metadata) => Object.fromEntries(
  Object.entries(metadata?.toHttp2Headers() ?? {}).map(([key, values]) => [key, [values].flat().map(String)]),
);

/** How a call went: its messages, its head, its status with trailers. `start` is given the callback of unary answers. */
function outcome(start, each = () => {}) {
  return new Promise((resolve) => {
    const found = { messages: [], head: {} };
    const call = start((_, message) => message && found.messages.push(message));
    call.on('metadata', (metadata) => (found.head = plain(metadata)));
    call.on('data', (message) => {
      found.messages.push(message);
      each(call, message);
    });
    call.on('error', () => {});
    call.on('status', ({ code, details, metadata }) => {
      setImmediate(() => resolve({ ...found, code, details, trailers: plain(metadata) }));
    });
  });
}

const within = (milliseconds) => ({ deadline: Date.now() + milliseconds });
const patient = () => within(30_000);

function marked() {
  const metadata = new grpc.Metadata();
  metadata.set('x-word', 'parcel');
  metadata.set('word-bin', Buffer.from([0, 128, 255]));
  return metadata;
}

const calls = {
  unary: () => outcome((done) => client.Send({ name: 'one', count: 1 }, marked(), patient(), done)),
  split: () => outcome(() => client.Split({ name: 'part', count: 2000 }, patient())),
  gather: () => outcome((done) => {
    const call = client.Gather(patient(), done);
    const content = Buffer.alloc(3000);
    for (let count = 1; count <= 500; count += 1) call.write({ count, content });
    call.end();
    return call;
  }),
  // Each message is sent only when the answer to the one before is there.
  exchange: () => outcome(() => {
    const call = client.Exchange(patient());
    call.write({ name: 'ball', count: 0 });
    return call;
  }, (call, { count }) => (count < 50 ? call.write({ name: 'ball', count }) : call.end())),
  refuse: () => outcome((done) => client.Refuse({}, patient(), done)),
  break: () => outcome(() => client.Break({}, patient())),
  deadline: () => outcome((done) => client.Keep({ name: 'deadline' }, within(300), done)),
  cancel: () => outcome((done) => {
    const call = client.Keep({ name: 'cancel' }, done);
    setTimeout(() => call.cancel(), 300);
    return call;
  }),
  // The first message is there when the call is given up.
  stop: () => outcome(() => client.Pour({ name: 'stop' }), (call) => call.cancel()),
  large: async () => {
    const content = pattern(6 * 1024 * 1024);
    const found = await outcome((done) => client.Send({ name: 'large', content }, patient(), done));
    const equal = found.messages.length === 1 && digest(found.messages[0].content) === digest(content);
    return { ...found, messages: found.messages.map(({ content: bytes }) => bytes.length), equal };
  },
  many: async () => {
    const one = (count) => outcome((done) => client.Send({ count }, patient(), done));
    const all = await Promise.all(Array.from({ length: 200 }, (_, at) => one(at)));
    return { right: all.filter(({ code, messages }, at) => code === 0 && messages[0].count === at).length };
  },
  unwritten: () => outcome((done) => client.Unwritten({}, patient(), done)),
  stranger: () => outcome((done) => strangers.Send({}, patient(), done)),
};

for (const name of cases) say({ case: name, ...(await calls[name]()) });
client.close();
strangers.close();
