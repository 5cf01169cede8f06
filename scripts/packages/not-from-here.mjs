// Run by `npm publish` in the project's root, which would publish a package without its binaries.

console.error('This folder is not what is published. See "Releasing" in CONTRIBUTING.md: npm run release')
process.exitCode = 1
