"""The systems of chapter 8, generative latent flow."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("vae-flow-prior", "VAE with flow prior, β", "thesis 3.3.1", 8, interactive=True),
    Row("vae-flow-posterior", "VAE with flow posterior", "thesis 3.2, Table 3.1", 8),
    Row("glf", "Generative latent flow", "thesis 3.3.2", 8, interactive=True),
    Row("regularised-glf", "GLF without stop-gradient", "thesis (3.5), 3.4.2", 8),
    Row("two-stage-vae", "Two-stage VAE", "thesis 3.2", 8),
    Row("rae-gmm", "Regularised AE + Gaussian mixture", "thesis 3.4.4", 8),
    Row("aae-wae", "Adversarial AE, WAE-GAN, WAE-MMD", "thesis 3.2; slides Fig. 14", 8),
    Row("vampprior", "VampPrior", "thesis 3.2", 8),
    Row("perceptual-glf", "GLF with perceptual loss", "thesis 3.4.1", 8),
)
