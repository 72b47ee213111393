"""The systems of chapter 11, denoising diffusion GAN."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "ddgan",
        "Denoising diffusion GAN",
        "thesis 6.3",
        11,
        interactive=True,
        code="gmcourse.compositions:DenoisingDiffusionGAN",
        section="11_denoising_diffusion_gan#a-gan-for-each-step",
        exercise="ddgan.discriminator_loss",
        explorer="gmcourse.viz.explorers:denoising_latent",
        test="tests/compositions/test_ddgan.py::test_with_the_true_posterior_few_steps_give_the_data_exactly",
    ),
    Row(
        "ddgan-ablations",
        "T, parameterizations, no latent, diffusion augmentation",
        "thesis Table 6.2",
        11,
        code="gmcourse.compositions:DiffusedCritic",
        section="11_denoising_diffusion_gan#one-change-at-a-time",
        exercise="ddgan.posterior_step",
        test="tests/test_ddgan_zoo.py::test_the_order_is_that_of_table_6_2",
    ),
    Row(
        "denoising-posterior",
        "True denoising distribution by quadrature",
        "thesis Fig. 6.3",
        11,
        interactive=True,
        code="gmcourse.diffusion:true_denoising",
        section="11_denoising_diffusion_gan#why-a-gaussian-step-must-be-small",
        exercise="ddgan.true_denoising",
        explorer="gmcourse.viz.explorers:denoising_posterior",
        test="tests/diffusion/test_denoising_posterior.py::test_a_mixtures_law_is_the_mixture_of_conjugate_gaussians",
    ),
    Row("stacked-mnist", "StackedMNIST: 1000 modes", "thesis 4.4.3, 6.4.3", 11),
    Row(
        "sdedit",
        "SDEdit: stroke-based synthesis",
        "thesis 6.4.6",
        11,
        code="gmcourse.diffusion:sdedit",
        section="11_denoising_diffusion_gan#from-strokes-to-a-picture",
        exercise="ddgan.stroke_edit",
        explorer="gmcourse.viz.explorers:strokes",
        test="tests/compositions/test_ddgan.py::test_sdedit_of_data_gives_data_that_remember_less_the_more_noise_they_got",
    ),
)
