// A gRPC server over HTTP/2 without TLS, with a method for each kind of call and each kind of end.
import { say, serveUntilAlone } from './peer.mjs';
import { Parcels, grpc } from './parcels.mjs';

serveUntilAlone();

function refusal(why) {
  const metadata = new grpc.Metadata();
  metadata.set('x-why', why);
  metadata.set('detail-bin', Buffer.from([0, 1, 254, 255]));
  return { code: grpc.status.RESOURCE_EXHAUSTED, details: 'no room: 100 % full, \u00fcberall \uc5c6\uc74c', metadata };
}

const methods = {
  Send(call, done) {
    const head = new grpc.Metadata();
    for (const key of ['x-word', 'word-bin']) call.metadata.get(key).forEach((value) => head.add(key, value));
    call.sendMetadata(head);
    const trailers = new grpc.Metadata();
    trailers.set('x-counted', String(call.request.content.length));
    done(null, call.request, trailers);
  },
  Split(call) {
    const content = Buffer.alloc(1000, 7);
    for (let count = 0; count < call.request.count; count += 1) call.write({ name: call.request.name, count, content });
    call.end();
  },
  Gather(call, done) {
    let count = 0;
    let length = 0;
    call.on('data', (parcel) => {
      count += parcel.count;
      length += parcel.content.length;
    });
    call.on('end', () => done(null, { name: `of ${length} bytes`, count }));
  },
  Exchange(call) {
    call.on('data', (parcel) => call.write({ name: `re: ${parcel.name}`, count: parcel.count + 1 }));
    call.on('end', () => call.end());
  },
  Refuse(_, done) {
    done(refusal('at once'));
  },
  Break(call) {
    for (let count = 0; count < 3; count += 1) call.write({ name: 'before', count });
    call.emit('error', refusal('half way'));
  },
  Pour(call) {
    say({ kept: call.request.name });
    call.on('cancelled', () => say({ cancelled: call.request.name }));
    call.write({ name: 'more follow' });
  },
  Keep(call) {
    say({ kept: call.request.name });
    call.on('cancelled', () => say({ cancelled: call.request.name }));
  },
};

const server = new grpc.Server({ 'grpc.max_receive_message_length': 16 << 20 });
server.addService(Parcels.service, methods);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  say({ port });
});
