// A client of GitHub's API, by GitHub's own library: `node github-client.mjs URL` makes calls one after another and writes one line
// for each.
import { request } from '@octokit/request';
import { endAfter, say } from './peer.mjs';

endAfter(60_000);
const ask = request.defaults({ baseUrl: process.argv[2], owner: 'octocat', repo: 'hello-world' });

async function call(name, route, parameters = {}) {
  try {
    const { status, data } = await ask(route, parameters);
    say({ case: name, status, keys: Array.isArray(data) ? data.length : Object.keys(data ?? {}).length });
  } catch (error) {
    if (!error.status) throw error;
    const data = error.response?.data;
    const problem = JSON.parse(Buffer.from(data ?? '{}').toString()); // the library itself reads `application/json` only
    say({ case: name, status: error.status, type: problem.type, violations: problem.violations ?? [] });
  }
}

await call('repository', 'GET /repos/{owner}/{repo}');
await call('issues', 'GET /repos/{owner}/{repo}/issues', { state: 'open', labels: 'bug,ui', per_page: 5, since: '2026-01-01T00:00:00Z' });
await call('open', 'POST /repos/{owner}/{repo}/issues', { title: 'found a bug', labels: ['bug', { name: 'ui' }], milestone: null });
await call('change', 'PATCH /repos/{owner}/{repo}/issues/{issue_number}', { issue_number: 7, state: 'closed', state_reason: 'completed' });
await call('topics', 'PUT /repos/{owner}/{repo}/topics', { names: ['octocat', 'atom'] });
await call('delete', 'DELETE /repos/{owner}/{repo}/git/refs/{ref}', { ref: 'heads-x' });
await call('markdown', 'POST /markdown', { text: '**hello**', mode: 'gfm' });
await call('emails', 'GET /user/emails');
await call('search', 'GET /search/issues', { q: 'repo:octocat/hello-world is:open', sort: 'updated' });

await call('no title', 'POST /repos/{owner}/{repo}/issues', { body: 'what is it about?', labels: 'bug' });
await call('bad page', 'GET /repos/{owner}/{repo}/issues', { per_page: 'many', state: 'ajar' });
await call('bad number', 'PATCH /repos/{owner}/{repo}/issues/{issue_number}', { issue_number: 'seven', state: 'closed' });
await call('no such path', 'GET /repos/{owner}/{repo}/secrets');
await call('no such method', 'DELETE /repos/{owner}/{repo}/issues');
