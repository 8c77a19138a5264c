# The matched recipe: every method of a `main` experiment trains under the recipe of its scale (docs/recipe.md lists
# them), so that only the method differs. Selection is by validation bPQ; validation is never the
# test set. An experiment changes values by differences: recipes = dict(small=dict(epochs=40, optimiser=dict(lr=1e-3))),
# on one data set alone: recipes_on = dict(conic=dict(paper=dict(tiling="none"))). Its runs have them in their names.
kind = "main"
protocol = "cellvit"
