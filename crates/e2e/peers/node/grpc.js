// A gRPC server and client over the library `@grpc/grpc-js`.
//   node grpc.js serve               prints its port, serves until its input ends
//   node grpc.js call HOST:PORT      makes calls of every kind; prints what it saw as JSON
'use strict';
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const { shop } = grpc.loadPackageDefinition(loader.loadSync(path.join(__dirname, 'shop.proto')));

const cancelled = { count: 0 };

const handlers = {
  Get(call, done) {
    const { name, count, data } = call.request;
    if (name === 'fail') {
      const trailers = new grpc.Metadata();
      trailers.set('x-why', 'not for sale');
      return done({ code: grpc.status.FAILED_PRECONDITION, details: 'kein Verkauf: 없음 %', metadata: trailers });
    }
    if (name === 'slow') {
      call.on('cancelled', () => { cancelled.count += 1; });
      return undefined;
    }
    if (name === 'cancelled') return done(null, { name, count: cancelled.count });
    const head = new grpc.Metadata();
    head.set('x-seen', String(call.metadata.get('x-asked')[0]));
    head.set('x-raw-bin', call.metadata.get('x-raw-bin')[0] || Buffer.alloc(0));
    call.sendMetadata(head);
    const trailers = new grpc.Metadata();
    trailers.set('x-cost', '7');
    return done(null, { name: `hello ${name}`, count: count + 1, data }, trailers);
  },
  List(call) {
    const { name, count } = call.request;
    for (let at = 0; at < count; at += 1) call.write({ name, count: at, data: Buffer.alloc(1000, at % 251) });
    if (name === 'endless') call.on('cancelled', () => { cancelled.count += 1; });
    else if (name === 'break') call.emit('error', { code: grpc.status.DATA_LOSS, details: 'half way' });
    else call.end();
  },
  Sum(call, done) {
    let count = 0;
    let size = 0;
    call.on('data', (item) => { count += item.count; size += item.data.length; });
    call.on('end', () => done(null, { name: String(size), count }));
  },
  Chat(call) {
    call.on('data', (item) => call.write({ name: `re: ${item.name}`, count: item.count }));
    call.on('end', () => call.end());
  },
};

function serve() {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 16 << 20 });
  server.addService(shop.Orders.service, handlers);
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(port);
  });
  process.stdin.resume().on('end', () => process.exit(0));
}

function get(client, request, metadata = new grpc.Metadata(), options = {}) {
  return new Promise((resolve) => {
    const seen = {};
    const call = client.Get(request, metadata, options, (error, answer) => {
      seen.code = error ? error.code : 0;
      seen.details = error ? error.details : '';
      seen.why = error && error.metadata ? error.metadata.get('x-why')[0] : undefined;
      seen.answer = answer;
    });
    call.on('metadata', (head) => { seen.head = head; });
    call.on('status', (status) => { seen.trailers = status.metadata; resolve(seen); });
  });
}

function list(call) {
  return new Promise((resolve) => {
    const items = [];
    call.on('data', (item) => items.push(item));
    call.on('error', () => {});
    call.on('status', (status) => resolve({ items, code: status.code, details: status.details }));
  });
}

async function call(address) {
  const client = new shop.Orders(address, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': 16 << 20,
    'grpc.enable_retries': 0,
  });
  const out = {};
  const metadata = new grpc.Metadata();
  metadata.set('x-asked', 'yes');
  metadata.set('x-raw-bin', Buffer.from([0, 255, 10, 13]));
  const unary = await get(client, { name: 'you', count: 41 }, metadata);
  out.unary = [unary.code, unary.answer.name, unary.answer.count];
  out.metadata = [unary.head.get('x-seen')[0], [...unary.head.get('x-raw-bin')[0]], unary.trailers.get('x-cost')[0]];
  const large = await get(client, { name: 'large', count: 0, data: Buffer.alloc(6 << 20, 9) });
  out.large = large.answer.data.length;
  const failed = await get(client, { name: 'fail' });
  out.failed = [failed.code, failed.details, failed.why];
  const listed = await list(client.List({ name: 'l', count: 2000 }));
  out.listed = [listed.code, listed.items.length, listed.items.every((item, at) => item.count === at)];
  const broken = await list(client.List({ name: 'break', count: 3 }));
  out.broken = [broken.code, broken.details, broken.items.length];
  out.summed = await new Promise((resolve, reject) => {
    const sum = client.Sum((error, answer) => (error ? reject(error) : resolve([answer.count, answer.name])));
    for (let at = 1; at <= 500; at += 1) sum.write({ count: at, data: Buffer.alloc(3000) });
    sum.end();
  });
  const chat = client.Chat();
  const chatted = list(chat);
  for (let at = 0; at < 50; at += 1) {
    const next = new Promise((resolve) => chat.once('data', resolve));
    chat.write({ name: `m${at}`, count: at });
    const item = await next;
    if (item.name !== `re: m${at}`) throw new Error(`${item.name} after m${at}`);
  }
  chat.end();
  out.chatted = (await chatted).code;
  const late = await get(client, { name: 'slow' }, new grpc.Metadata(), { deadline: Date.now() + 400 });
  out.late = late.code;
  const endless = client.List({ name: 'endless', count: 1 });
  const ended = list(endless);
  endless.once('data', () => endless.cancel());
  out.cancelled = (await ended).code;
  for (let left = 100; left > 0; left -= 1) {
    out.cancelledCalls = (await get(client, { name: 'cancelled' })).answer.count;
    if (out.cancelledCalls >= 2) break;
  }
  const Unknown = grpc.makeGenericClientConstructor({
    Get: { ...shop.Orders.service.Get, path: '/other.Service/Get' },
  });
  const unknown = await get(new Unknown(address, grpc.credentials.createInsecure()), { name: 'x' });
  out.unknown = [unknown.code, unknown.details];
  const calls = [];
  for (let at = 0; at < 200; at += 1) calls.push(get(client, { name: `${at}`, count: at }));
  const answers = await Promise.all(calls);
  out.many = answers.every((seen, at) => seen.code === 0 && seen.answer.count === at + 1);
  console.log(JSON.stringify(out));
  client.close();
}

const [mode, address] = process.argv.slice(2);
if (mode === 'serve') serve();
else call(address).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
