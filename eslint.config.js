// Lint rules, and the one rule of the house: a floor imports from itself and from floors below, never upward.
import tseslint from 'typescript-eslint'

/** Every floor with the floors it may import from (itself included by nature). */
const below = {
  packet: [],
  kernel: [],
  bpf: ['kernel', 'packet'],
  nic: ['kernel', 'packet'],
  lab: ['kernel', 'packet'],
  filter: ['kernel', 'bpf', 'packet'],
  programs: ['kernel', 'bpf', 'filter', 'packet'],
  xsk: ['kernel', 'bpf', 'filter', 'nic', 'packet', 'programs'],
  capture: ['kernel', 'bpf', 'filter', 'nic', 'packet', 'programs', 'xsk'],
  forward: ['kernel', 'bpf', 'filter', 'nic', 'packet', 'programs', 'xsk'],
  generate: ['kernel', 'bpf', 'capture', 'filter', 'nic', 'packet', 'programs', 'xsk'],
  serve: ['kernel', 'bpf', 'filter', 'nic', 'packet', 'programs', 'xsk'],
}
const floors = [...Object.keys(below), 'cli']

const floorRule = (floor, allowed) => ({
  files: [`src/${floor}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: `^\\.\\./(?:\\.\\./)*(?:${floors.filter((f) => f !== floor && !allowed.includes(f)).join('|')}|index)(?:/|\\.js$)`,
            message: `The floor src/${floor} may import only from itself${allowed.length ? ` and from ${allowed.join(', ')}` : ''}.`,
          },
          { regex: '^node-xdp', message: 'Inside src, import by relative path.' },
        ],
      },
    ],
  },
})

export default tseslint.config(
  { ignores: ['dist', 'build', 'prebuilds', 'node_modules'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['test', 'describe', 'it', 'suite'], package: 'node:test' },
          ],
        },
      ],
    },
  },
  ...Object.entries(below).map(([floor, allowed]) => floorRule(floor, allowed)),
)
