// A web server with one page that fetches forty numbers at once, posts a large body, and shows the sum of the numbers.
import { createServer } from 'node:http';
import { say, serveUntilAlone } from './peer.mjs';

serveUntilAlone();
const PAGE = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Sum</title><link rel="icon" href="data:,"></head>
<body>
<output id="sum">waiting</output>
<script>
  const numbers = Array.from({ length: 40 }, (_, at) => fetch('/numbers/' + (at + 1)).then((answer) => answer.json()));
  const posted = fetch('/length', { method: 'POST', body: 'x'.repeat(500000) }).then((answer) => answer.text())
    .then((text) => (text === '500000' ? { number: 0 } : Promise.reject(text + ' bytes arrived')));
  Promise.all([...numbers, posted]).then(
    (all) => { document.getElementById('sum').textContent = all.reduce((sum, { number }) => sum + number, 0); },
    (error) => { document.getElementById('sum').textContent = 'failed: ' + error; },
  );
</script>
</body>
</html>
`;

const server = createServer((request, response) => {
  const number = /^\/numbers\/(\d+)$/.exec(request.url)?.[1];
  if (number) {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
    response.end(JSON.stringify({ number: Number(number), padding: 'x'.repeat(Number(number) * 1000) }));
  } else if (request.method === 'POST' && request.url === '/length') {
    let length = 0;
    request.on('data', (bytes) => (length += bytes.length));
    request.on('end', () => response.end(String(length)));
  } else if (request.url === '/') {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end(PAGE);
  } else {
    response.writeHead(404);
    response.end();
  }
});
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
